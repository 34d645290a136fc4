import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { isNoAccess, noAccess } from './no-access.ts';

const directory = realpathSync(mkdtempSync(join(tmpdir(), 'us-access-')));
after(() => rmSync(directory, { recursive: true, force: true }));

// As libvirt 9.0 says them.
const BIND = (path: string) =>
  `internal error: unable to execute QEMU command 'nbd-server-start': Failed to bind socket to ${path}: Permission denied`;
const OPEN = (path: string) =>
  `internal error: unable to execute QEMU command 'blockdev-add': Could not open '${path}': Permission denied`;

test('libvirt’s words for it', () => {
  assert.ok(isNoAccess(BIND('/x')) && isNoAccess(OPEN('/x')));
  assert.ok(!isNoAccess('internal error: unable to execute QEMU command: No such file or directory'));
});

test('the path is named; where the way is free, the rule of AppArmor and the label of SELinux', async () => {
  for (const words of [BIND, OPEN]) {
    const path = join(directory, 'job', '1.sock');
    const { code, message, hint } = await noAccess('web', directory, undefined, new Error(words(path)));
    assert.equal(code, 'no-access');
    assert.ok(message.startsWith(`QEMU of VM web may not use ${path}: internal error`), message);
    assert.ok(hint.includes(`\`${directory}/job/* rwk,\``), hint);
    assert.match(hint, /SELinux: the label qemu_var_run_t/);
  }
  const elsewhere = await noAccess('web', directory, undefined, new Error(OPEN('/vm/base.qcow2')));
  assert.match(elsewhere.hint, /`\/vm\/base\.qcow2 rwk,`/);
});

test('a directory in the way is named, with the command that opens it', async (context) => {
  if (process.getuid?.() !== 0) return context.diagnostic('only root can ask for another user');
  const barred = join(directory, 'barred');
  mkdirSync(join(barred, 'vm'), { recursive: true });
  chmodSync(directory, 0o711);
  chmodSync(barred, 0o700);
  const nobody = { uid: 65_534, gid: 65_534 };
  const { hint } = await noAccess(
    'web',
    join(barred, 'vm'),
    nobody,
    new Error(BIND(join(barred, 'vm', 'job', '1.sock'))),
  );
  assert.ok(hint.startsWith(`QEMU's user can't pass ${barred}: \`chmod o+x ${barred}\``), hint);
});
