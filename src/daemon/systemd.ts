import { run } from '../lib/process.ts';

/** Tells systemd how we are, where it has started us (`Type=notify`); elsewhere does nothing. */
export async function notifySystemd(state: string): Promise<void> {
  if (process.env['NOTIFY_SOCKET'] === undefined) return;
  // Node can't write to datagram sockets of the file system; systemd brings the program that does.
  await run('systemd-notify', [`--pid=${process.pid}`, state], { timeoutMs: 5000 });
}
