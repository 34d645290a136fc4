/** docs/errors.md, from the catalogue of Failures. */
import { NOT_FOLLOWING } from '../model/not-following.ts';
import { CATALOGUE, type FailureCode, type RetryClass } from '../model/failure.ts';

/** What has happened when a code is met. The cure is the catalogue's. */
const MEANING = {
  'bad-request': 'Something asked for is not what the operation takes: a field is missing, unknown or out of range.',
  'bad-config': 'The configuration file holds something that it must not, or an address that cannot be listened on.',
  'not-found': 'What was named is not there, or not on this host.',
  'already-exists': 'What was to be made is there already, perhaps made by somebody else.',
  'wrong-state': 'The relationship, VM or action does not allow this now.',
  'wrong-role': 'It must be asked of the host with the other role.',
  busy: 'Something else is under way that must end first.',
  'peer-refused': 'The other host answers, but does not know this one (any more).',
  'token-invalid': 'The token for pairing is used, expired, mistyped or of another host.',
  'peer-identity': 'What answers at the address of a peer is not that peer.',
  unreachable: 'No connection to the peer can be made.',
  interrupted: 'A connection broke while it was used, or this side is ending.',
  timeout: 'No sign of life came for too long.',
  'not-following': 'The replica holds another state than the one that the log begins at; nothing was applied.',
  'stale-epoch': 'A failover has moved the role: this side speaks for a time that is over.',
  'bad-log': 'A delta log does not match its own digests; nothing of the damaged part was applied.',
  'log-refused':
    'The Replica server finds one log after the other damaged, also those that were made anew by comparing both sides; what is there stays as it is.',
  'point-damaged':
    'A recovery point holds bytes that are known to be damaged, or can not be read any more because the way back to it is damaged.',
  'format-unknown': 'A file, log or peer uses a version that this one does not know. It is never guessed at.',
  libvirt: 'libvirt refused a call, or failed at it.',
  'libvirt-down': 'libvirtd does not answer on its socket.',
  'vm-running': 'The VM runs, and must not for this.',
  'vm-not-running': 'The VM is off, and must not be for this.',
  'shutdown-timeout': 'The guest was asked to shut down and did not in time. It was not forced.',
  yielded: 'Somebody has asked that the VM be left to other programs for a while; it goes on by itself.',
  'job-conflict': 'libvirt allows one such job at a time for a VM, and another program has it.',
  'guest-starting':
    'The VM has just started or rebooted. libvirt loses a guest agent that comes while a backup job is open, so none is opened until then. It is met by nobody but the log of the daemon.',
  'too-much-at-once': 'A cycle was given up for the sake of the guest or of free space; nothing is lost by it.',
  'disks-changed':
    'A disk of the VM was resized while a point in time of it was being read. It is met by nobody but the log of the daemon: reading begins again at once.',
  'disk-removed': 'A replicated disk was taken out of the VM. Recovery points keep it, and no new ones are made.',
  'tracking-lost': 'The bitmap that says what has changed is gone or not to be relied on.',
  suspended: 'An administrator of the Replica server has paused replication there: it takes no logs.',
  'resync-required':
    'Both sides have to be compared, and the setting of the relationship (`--auto-resync`) says: not now, or not without a person.',
  'disk-unsupported': 'The changes of this kind of disk cannot be tracked.',
  'disk-encrypted':
    'A disk is encrypted on the primary. What is read of it is plain text, which a replica would store; and a replica can not be kept in its image.',
  'disk-engine': 'qemu-storage-daemon, qemu-img or an NBD server of theirs failed.',
  'no-access':
    "QEMU's user may not use a file, socket or directory that replication needs: by owner and mode, or because AppArmor or SELinux forbids it.",
  io: 'A file or device could not be read or written.',
  'no-space': 'A file system is full, or would be.',
  'unsupported-version': 'libvirt or QEMU of this host is older than what replication can rely on.',
  'missing-program': 'A program that is needed is not installed.',
  internal: 'Understudy did something wrong.',
} as const satisfies Record<FailureCode, string>;

const RETRY: Record<RetryClass, string> = {
  backoff:
    'heals without anybody doing anything. It is tried again after ¼, ½, 1, 2, … s, at most max(10 s, 2 × interval) and never more than 1, 2, 4, 8, 10, then 30 minutes. The first success to a peer lets everything that waits for that peer try at once.',
  space: 'heals when somebody makes room. It is tried again after 1, 2, 4, 8, 10, then every 30 minutes.',
  never:
    'waits for a person. Nothing is done about it by itself; the relationship only looks every max(10 s, 2 × interval) whether the person has done it.',
};

/** The page. */
export function errorReference(): string {
  const rows = Object.entries(CATALOGUE).map(
    ([code, { retry, status, hint }]) =>
      `| \`${code}\` | ${retry} | ${MEANING[code as FailureCode]} | ${hint} | ${status} |`,
  );
  return [
    '# Errors\n',
    'Every error is `{ "code", "message", "hint", "retry" }`. The message names the thing, the hint is the cure for it: a',
    'better one than the general cure below where the place of failure knows more. Codes are stable.\n',
    '| retry | |',
    '|---|---|',
    ...Object.entries(RETRY).map(([retry, meaning]) => `| \`${retry}\` | ${meaning} |`),
    '\n| code | retry | meaning | cure | HTTP status |',
    '|---|---|---|---|---|',
    ...rows,
    '\n## Not following\n',
    'The message of `not-following` begins with its kind; the hint is the cure of that kind. Whatever a replica refuses, its disks and',
    'points stay as they are. The primary asks where the replica stands and has both sides compared by itself, unless its setting',
    '([resync.md](resync.md)) says to wait.\n',
    '| kind | what has happened | cure |',
    '|---|---|---|',
    ...Object.entries(NOT_FOLLOWING).map(([kind, { meaning, cure }]) => `| ${kind} | ${meaning} | ${cure} |`),
    '',
  ].join('\n');
}
