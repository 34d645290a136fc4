/** docs/what-touches-a-vm.md: what may happen to a protected VM, and the test that shows what becomes of it. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Proof, Touch } from '../test/guests/what-touches.ts';

const ROOT = join(import.meta.dirname, '..');

/** The page. Throws where a test that it names isn't there: `read` gives a file's text by its path in the tree. */
export function touchesPage(sections: Readonly<Record<string, readonly Touch[]>>, read = readSource): string {
  const rows = Object.values(sections).flat();
  const missing = rows.flatMap(({ proofs }) => proofs).filter((proof) => !isThere(proof, read));
  if (missing.length > 0) {
    throw new Error(`no such test:\n${missing.map(({ file, test }) => `${file}: ${test}`).join('\n')}`);
  }
  const proven = rows.filter(({ proofs }) => proofs.length > 0).length;
  return [
    '# What touches a protected VM\n',
    'Administrators go on using virsh, virt-manager, snapshots and backup tools beside Understudy. This is what it does about each thing that may',
    'happen to a protected VM, what you see of it, and the test that shows it. How to live with other programs: [neighbours.md](neighbours.md).\n',
    `Of ${rows.length} rows ${proven} are proven by a test that runs; the others say **untested**. *With* names the versions of libvirt and QEMU that the test runs`,
    'on: 9.0/7.2 are those of Debian 12, 11.3/10.0 those of its backports. “No libvirt” is a test of the decision alone, or on QEMU’s tools.',
    'All of these that leave the VM where it is also happen in random order, with cycles going on and all bytes compared:',
    '`npm run test:soak -- week --operations 200`, a slice of which is `test/guests/week.test.ts`, and `newer-week`, the same on 11.3/10.0; what they have found is in `test/soak/LEDGER.md`.',
    ...Object.entries(sections).flatMap(([title, touches]) => ['', `## ${title}\n`, ...tableOf(touches)]),
    '',
  ].join('\n');
}

function tableOf(touches: readonly Touch[]): string[] {
  return [
    '| what happens | what Understudy does | what you see | proven by | with |',
    '|---|---|---|---|---|',
    ...touches.map(({ what, understudy, seen, proofs }) => {
      const by = proofs.map(({ file, test }) => `\`${file}\`: ${test}`).join('<br>');
      const on = [...new Set(proofs.map(({ file }) => versionsIn(file)))].join('<br>');
      return `| ${[what, understudy, seen, by || '**untested**', on || '–'].join(' | ')} |`;
    }),
  ];
}

/** What a test runs on goes by what it needs. */
function versionsIn(file: string): string {
  if (/(?:newer-versions|raw-disks)\.test\.ts$/.test(file)) return '11.3/10.0';
  const onLibvirt = file.startsWith('test/guests/') || file.startsWith('test/conformance/');
  return onLibvirt || file.endsWith('.libvirt.test.ts') ? '9.0/7.2' : 'no libvirt';
}

/** Whether a file has a test or stage of that name; `${…}` in its name may be anything. */
function isThere({ file, test }: Proof, read: (file: string) => string | undefined): boolean {
  const names = (read(file) ?? '').matchAll(/\b(?:stage|test)\(\s*(?:'((?:[^'\\\n]|\\.)*)'|"([^"\n]*)"|`([^`]*)`)/g);
  for (const [, single, double, template] of names) {
    if ((single?.replaceAll(/\\(.)/g, '$1') ?? double) === test) return true;
    const parts = template?.split(/\$\{[^}]*\}/).map((part) => RegExp.escape(part));
    if (parts !== undefined && new RegExp(`^${parts.join('.+')}$`).test(test)) return true;
  }
  return false;
}

function readSource(file: string): string | undefined {
  try {
    return readFileSync(join(ROOT, file), 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}
