/** Directories that a cycle or a failover needs: who may use them, and how much room there is. */
import { bytesText } from '../../lib/bytes-text.ts';
import { Failure } from '../../model/failure.ts';
import { POINT_LIMITS } from '../../primary/open-point.ts';
import { reserveOf } from '../../replica/room.ts';
import { critical, ok, warning, type Finding } from './finding.ts';

export type Purpose = 'state' | 'outbox' | 'points' | 'replicas' | 'run';

export interface PlaceFacts {
  readonly purpose: Purpose;
  readonly path: string;
  /** Undefined: the directory isn't there, or can't be looked at. */
  readonly fileSystem?: FileSystem;
  /** Whether the daemon may make files there; the file system may be read-only, too. */
  readonly writable: boolean;
  /** Where QEMU's user has to come to it: the first directory that he can't pass, or null; `unknown`: it couldn't be asked. Undefined: nobody has to. */
  readonly barred?: { readonly at: string } | 'unknown' | null;
}

/** Of a file system. */
interface FileSystem {
  readonly freeBytes: number;
  readonly totalBytes: number;
  /** `memory`: what is there is gone when the host restarts. */
  readonly kind: 'memory' | 'network' | 'disk';
}

export interface PlaceNeeds {
  /** Whom QEMU runs as, in words. */
  readonly vmUser: string;
  /** Whether replicas are kept here. */
  readonly keepsReplicas: boolean;
  /** Room on the file system of replicas that receiving leaves free, bytes; undefined: the default. */
  readonly replicaReserve: number | undefined;
}

/** The option of the configuration that moves it. */
const OPTION: Readonly<Record<Purpose, string>> = {
  state: 'stateDirectory',
  outbox: 'outboxDirectory',
  points: 'pointDirectory',
  replicas: 'replicaDirectory',
  run: 'runDirectory',
};
const WHAT: Readonly<Record<Purpose, string>> = {
  state: 'state',
  outbox: 'outbox',
  points: 'points in time',
  replicas: 'replicas',
  run: 'sockets',
};

/** Bytes of a unix socket's path, and of those what follows the point directory: `/<id of the VM>/job/<8 digits>.sock`. */
const SOCKET_PATH_MAX = 107;
const BELOW_POINTS = 55;
/** Databases, keys and journals, and the digests of disks grow slowly. */
const LEAST_STATE_BYTES = 100 * 2 ** 20;
const GOOD_STATE_BYTES = 2 ** 30;
/** The outbox of a VM may take a tenth of what is free: with less than this a cycle is sent in slices. */
const GOOD_OUTBOX_BYTES = 640 * 2 ** 20;

export function judgePlace(place: PlaceFacts, needs: PlaceNeeds): Finding[] {
  const { fileSystem } = place;
  const rights = judgeRights(place, needs);
  return fileSystem === undefined
    ? [rights]
    : [rights, judgeRoom(place, fileSystem, needs), ...judgeKind(place, fileSystem)];
}

/** Why no point can ever be opened (`no-access`, `bad-config`); undefined: nothing is known to stand in the way. */
export function obstacleTo(points: PlaceFacts, vmUser: string): Failure | undefined {
  if (points.fileSystem === undefined) return undefined; // it is made with the first point
  const { severity, found, cure } = judgeRights(points, { vmUser, keepsReplicas: false });
  if (severity !== 'critical') return undefined;
  const code = isTooLong(points) ? 'bad-config' : 'no-access';
  return new Failure(code, `no point in time can be opened: ${found}`, cure === null ? {} : { hint: cure });
}

function judgeRights(
  place: PlaceFacts,
  { vmUser, keepsReplicas }: Pick<PlaceNeeds, 'vmUser' | 'keepsReplicas'>,
): Finding {
  const { purpose, path, fileSystem, writable, barred } = place;
  const subject = `rights: ${WHAT[purpose]}`;
  const elsewhere = `or set \`${OPTION[purpose]}\` to another directory`;
  if (fileSystem === undefined) {
    return critical(subject, `${path} isn't there`, `Make it or mount it, and restart understudyd; ${elsewhere}.`);
  }
  if (!writable) {
    const cure = `Mount its file system so that it can be written; under systemd let \`ReadWritePaths\` name it; ${elsewhere}.`;
    return critical(subject, `understudyd can't write to ${path}`, cure);
  }
  if (isTooLong(place)) {
    const most = SOCKET_PATH_MAX - BELOW_POINTS;
    return critical(
      subject,
      `${path} is too long for sockets below it`,
      `Set \`pointDirectory\` to a path of at most ${most} bytes.`,
    );
  }
  if (barred === undefined) return ok(subject, `understudyd can write to ${path}`);
  if (barred === null) return ok(subject, `understudyd can write to ${path}, and ${vmUser} gets to it`);
  if (barred === 'unknown') {
    return warning(subject, `whether ${vmUser} gets to ${path} couldn't be found out`, 'Run understudyd as root.');
  }
  const found = `QEMU's user, ${vmUser}, can't pass ${barred.at} on the way to ${path}`;
  const cure = `\`chmod o+x ${barred.at}\` (it shows nothing of what is in it), ${elsewhere}.`;
  if (purpose === 'points' || keepsReplicas) return critical(subject, found, cure);
  return warning(subject, `${found}: a Replica VM could not be started from there`, cure);
}

function isTooLong({ purpose, path }: PlaceFacts): boolean {
  return purpose === 'points' && Buffer.byteLength(path) + BELOW_POINTS > SOCKET_PATH_MAX;
}

function judgeRoom({ purpose, path }: PlaceFacts, { freeBytes, totalBytes }: FileSystem, needs: PlaceNeeds): Finding {
  const subject = `room: ${WHAT[purpose]}`;
  const free = `${bytesText(freeBytes)} of ${bytesText(totalBytes)} are free at ${path}`;
  const cure = `Make room there, or set \`${OPTION[purpose]}\` to a larger file system.`;
  switch (purpose) {
    case 'points': {
      const { reserveBytes } = POINT_LIMITS;
      const kept = `${bytesText(reserveBytes)} are left free so that no guest is paused`;
      if (freeBytes < reserveBytes) return critical(subject, `${free}: no point can be held open; ${kept}`, cure);
      if (freeBytes < 4 * reserveBytes) return warning(subject, `${free}; ${kept}`, cure);
      return ok(subject, free);
    }
    case 'replicas': {
      const reserve = reserveOf(needs.replicaReserve, totalBytes);
      const kept = `${bytesText(reserve)} of it are kept for what was received (\`replica.reserve\`)`;
      const isFull = freeBytes < reserve;
      if (isFull && needs.keepsReplicas) return critical(subject, `${free}, ${kept}: no more is received`, cure);
      if (freeBytes < 2 * reserve) return warning(subject, `${free}, ${kept}`, cure);
      return ok(subject, `${free}, ${kept}`);
    }
    case 'outbox':
      if (freeBytes < GOOD_OUTBOX_BYTES) return warning(subject, `${free}: larger cycles are sent in slices`, cure);
      return ok(subject, free);
    case 'state':
    case 'run':
      if (freeBytes < LEAST_STATE_BYTES && purpose === 'state') return critical(subject, free, cure);
      if (freeBytes < (purpose === 'state' ? GOOD_STATE_BYTES : 2 ** 20)) return warning(subject, free, cure);
      return ok(subject, free);
  }
}

/** What must outlive the host's restart must not lie in memory. */
function judgeKind({ purpose, path }: PlaceFacts, { kind }: FileSystem): Finding[] {
  const subject = `file system: ${WHAT[purpose]}`;
  const cure = `Set \`${OPTION[purpose]}\` to a directory on a disk of this host.`;
  if (kind === 'memory' && (purpose === 'state' || purpose === 'replicas')) {
    return [warning(subject, `${path} lies in memory: it is gone when the host restarts`, cure)];
  }
  if (kind === 'network' && purpose === 'points') {
    return [
      warning(subject, `${path} lies on a network: scratch files there slow the guest, and may not change hands`, cure),
    ];
  }
  return [];
}
