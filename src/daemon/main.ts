/** `understudyd [--config FILE]`: reads the configuration, runs the daemon, ends it at SIGTERM or SIGINT. */
import { access } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { createLog } from '../lib/log.ts';
import { asFailure } from '../model/failure.ts';
import { defaultConfig, readConfig, type Config } from './config/read.ts';
import { startDaemon } from './daemon.ts';
import { notifySystemd } from './systemd.ts';

const DEFAULT_CONFIG = '/etc/understudy/understudyd.yaml';
/** After this long without having ended, the daemon ends all the same: a restart takes up what is left. */
const END_AT_LATEST_MS = 30_000;

async function configuration(): Promise<Config> {
  const { values } = parseArgs({ options: { config: { type: 'string' } } });
  if (values.config !== undefined) return await readConfig(values.config);
  const present = await access(DEFAULT_CONFIG).then(
    () => true,
    () => false,
  );
  return present ? await readConfig(DEFAULT_CONFIG) : defaultConfig();
}

async function main(): Promise<void> {
  const ending = new AbortController();
  process.once('SIGTERM', () => ending.abort());
  process.once('SIGINT', () => ending.abort());
  const config = await configuration();
  const log = createLog({ level: config.logLevel, component: 'understudyd' });
  const daemon = await startDaemon(config, log);
  await notifySystemd('READY=1');
  if (!ending.signal.aborted) {
    await new Promise<void>((resolve) => ending.signal.addEventListener('abort', () => resolve(), { once: true }));
  }
  await notifySystemd('STOPPING=1');
  setTimeout(() => {
    log.error('could not end in time');
    process.exit(1);
  }, END_AT_LATEST_MS).unref();
  await daemon.close();
}

try {
  await main();
} catch (error) {
  const { code, message, hint } = asFailure(error);
  process.stderr.write(`understudyd: ${message}\nhint: ${hint} (${code})\n`);
  process.exitCode = 1;
}
