/**
 * The one error family. Every error that can reach a person or the wire is a `Failure` of a code in the
 * catalogue; anything else that escapes is a bug and is reported as `internal`.
 *
 * A code is stable and part of the API. `retry` says what the engines may do by themselves:
 * - `backoff`: it can heal without anybody doing anything (network, a busy job): try again, later and later;
 * - `space`: it heals when somebody makes room (full disk): try again slowly;
 * - `never`: trying again changes nothing; a person has to act, and the hint says how.
 */
export type RetryClass = 'backoff' | 'space' | 'never';

interface Kind {
  readonly retry: RetryClass;
  /** HTTP status that the code is told with. */
  readonly status: number;
  /** The cure: what a person does about it. */
  readonly hint: string;
}

const kind = (retry: RetryClass, status: number, hint: string): Kind => ({ retry, status, hint });

/** Every code there is, with its class and its cure. Sorted by who meets it. */
export const CATALOGUE = {
  // asking for something
  'bad-request': kind('never', 400, 'Correct the named field and send the request again.'),
  'bad-config': kind(
    'never',
    400,
    'Correct the named line of the configuration file; examples/config holds commented ones.',
  ),
  'not-found': kind(
    'never',
    404,
    'List what is there with `understudy replication list`, `vm list`, `peer list` or `point list`.',
  ),
  'already-exists': kind('never', 409, 'Use the existing one, or remove it first.'),
  'wrong-state': kind('never', 409, 'See the present state and what it allows with `understudy replication show`.'),
  'wrong-role': kind('never', 409, 'Run this on the other host; `understudy replication show` names it.'),
  busy: kind('backoff', 409, 'Another action on this relationship is under way; wait for it to end.'),
  // security
  'peer-refused': kind(
    'never',
    403,
    'Pair the two hosts: `understudy peer token` on one, `understudy peer join` on the other.',
  ),
  'token-invalid': kind(
    'never',
    403,
    'Make a new token with `understudy peer token` on the other host; a token works once, for a limited time.',
  ),
  'peer-identity': kind(
    'never',
    502,
    'The peer answered with another identity than the one paired. If it was reinstalled, remove the peer and pair again.',
  ),
  // network
  unreachable: kind(
    'backoff',
    502,
    'Check that understudyd runs on the peer and that its port is open between the hosts.',
  ),
  interrupted: kind('backoff', 502, "The connection broke; sending goes on at the replica's durable offset by itself."),
  timeout: kind('backoff', 504, 'Check the load and the link of the named host.'),
  // following exactly
  'not-following': kind(
    'never',
    409,
    'By its kind, which the message begins with: see docs/errors.md. Most are cured by a comparison: `understudy replication resync`.',
  ),
  'stale-epoch': kind(
    'never',
    409,
    'The other side has taken the role over since. See both with `understudy replication show`.',
  ),
  'bad-log': kind('backoff', 422, 'The log was damaged on its way or at rest; it is sent again.'),
  'log-refused': kind(
    'never',
    422,
    'A log was made anew, and both sides compared, in vain: look for failing memory or a failing network card on either host, and see that both run the same version of understudy. It is tried again now and then.',
  ),
  'point-damaged': kind('never', 409, 'Choose another recovery point: `understudy point list` says which are whole.'),
  'format-unknown': kind('never', 422, 'Written by a newer version: upgrade understudy on this host.'),
  // hypervisor and disks
  libvirt: kind('backoff', 502, "See libvirtd's own log on the named host."),
  'libvirt-down': kind('backoff', 502, 'Start libvirtd (or virtqemud) on the named host.'),
  'vm-running': kind('never', 409, 'Shut the VM down first, or use a planned failover, which does.'),
  'vm-not-running': kind('never', 409, 'Start the VM first.'),
  'shutdown-timeout': kind('never', 504, 'The guest did not shut down in time. Shut it down by hand and try again.'),
  'job-conflict': kind(
    'backoff',
    409,
    'Another backup job is open on this VM (see `virsh domjobinfo`); replication waits for it.',
  ),
  'guest-starting': kind(
    'backoff',
    409,
    'The next cycle begins when the guest agent is there, or a minute after the start.',
  ),
  yielded: kind(
    'backoff',
    409,
    'It goes on by itself at the time named, or at once with `understudy replication resume`.',
  ),
  'too-much-at-once': kind(
    'backoff',
    409,
    'More has changed than fits one log, or the point in time could not be held so long: it is sent in slices by itself.',
  ),
  'disks-changed': kind(
    'backoff',
    409,
    'Disks of the VM were resized: what was being read is read again by itself, and the replica follows.',
  ),
  'disk-removed': kind(
    'backoff',
    409,
    'Attach the disk again: replication goes on by itself. Or let it go on without it (`understudy replication set VM --exclude-disk DISK`): older recovery points keep the disk.',
  ),
  'tracking-lost': kind(
    'never',
    409,
    'The change bitmap is gone; both sides are compared and only differences are sent.',
  ),
  suspended: kind(
    'never',
    409,
    'Resume it on the host that has paused it: `understudy replication resume`. The primary goes on by itself then.',
  ),
  'resync-required': kind(
    'never',
    409,
    'Begin the comparison with `understudy replication resync`, or let it begin by itself: `understudy replication set --auto-resync`.',
  ),
  'disk-unsupported': kind(
    'never',
    422,
    'Change what the message names (a disk of another format: `qemu-img convert -O qcow2`), or leave the disk out with --exclude-disk.',
  ),
  'disk-encrypted': kind(
    'never',
    422,
    "Allow it with --replica-plaintext (`understudy replication enable`, or `set`), where the replica and this host's outbox may hold plain text; or leave the disk out with --exclude-disk. See docs/encryption.md.",
  ),
  'disk-engine': kind(
    'backoff',
    502,
    'qemu-storage-daemon failed; it is started again by itself. Its last words are in the event.',
  ),
  'no-access': kind(
    'backoff',
    409,
    "Give QEMU's user the right that the message names: `understudy doctor` says which, docs/rights.md how. It is tried again by itself.",
  ),
  io: kind('backoff', 500, 'See the kernel log of the named host for the device.'),
  'no-space': kind('space', 507, 'Make room on the named file system; replication goes on by itself.'),
  'unsupported-version': kind(
    'never',
    409,
    'Upgrade what the message names on this host; README says which versions are supported.',
  ),
  'missing-program': kind('never', 500, 'Install the named Debian package.'),
  internal: kind('never', 500, "This is a bug of understudy. Please report it with the event's cause."),
} as const satisfies Record<string, Kind>;

export type FailureCode = keyof typeof CATALOGUE;

export interface FailureJson {
  readonly code: FailureCode;
  readonly message: string;
  readonly hint: string;
  readonly retry: RetryClass;
}

export class Failure extends Error {
  override readonly name = 'Failure';
  readonly code: FailureCode;
  readonly hint: string;

  /** @param hint replaces the catalogue's cure where the place of failure knows a better one. */
  constructor(code: FailureCode, message: string, options: { cause?: unknown; hint?: string } = {}) {
    super(message, options.cause === undefined ? {} : { cause: options.cause });
    this.code = code;
    this.hint = options.hint ?? CATALOGUE[code].hint;
  }

  get retry(): RetryClass {
    return CATALOGUE[this.code].retry;
  }

  get status(): number {
    return CATALOGUE[this.code].status;
  }

  toJSON(): FailureJson {
    return { code: this.code, message: this.message, hint: this.hint, retry: this.retry };
  }

  static fromJson(json: { code: string; message: string; hint?: string }): Failure {
    const code = isFailureCode(json.code) ? json.code : 'internal';
    return new Failure(code, json.message, json.hint === undefined ? {} : { hint: json.hint });
  }
}

export function isFailureCode(code: string): code is FailureCode {
  return Object.hasOwn(CATALOGUE, code);
}

const SPACE_CODES = new Set(['ENOSPC', 'EDQUOT']);

/** Any thrown value as a Failure; a full disk is recognised whatever threw it. */
export function asFailure(error: unknown, code: FailureCode = 'internal'): Failure {
  if (error instanceof Failure) return error;
  if (error instanceof Error) {
    const errno = (error as NodeJS.ErrnoException).code;
    if (errno !== undefined && SPACE_CODES.has(errno)) {
      return new Failure('no-space', error.message, { cause: error });
    }
    return new Failure(code, error.message, { cause: error });
  }
  return new Failure(code, String(error));
}
