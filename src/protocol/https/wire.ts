import type { LogName } from '../endpoint.ts';

/** Versions of the wire that this build speaks, the newest first. */
export const WIRES: readonly number[] = [1];
/** Request header with the wire's version; every request but `hello` must carry it. */
export const WIRE_HEADER = 'understudy-wire';
/** Name that a host without a pairing asks for by SNI: the only way in for strangers, and only while a token is out. */
export const ENROLMENT_NAME = 'enrolment.understudy.invalid';

/** After this long without any sign of life of the other end it is given up, ms. */
export const SILENCE_MS = 60_000;
/** A request in progress gives this many signs of life (`102 Processing`) in that time. */
export const SIGNS_OF_LIFE = 12;

/**
 * So many signs of life, at their pace, may be missing before the connection is doubted: then the peer is asked on a new one.
 */
export const DOUBT_AFTER_SIGNS = 1.5;
/** TCP asks a silent peer after this long whether it is still there, ms. */
export const TCP_KEEP_ALIVE_MS = 15_000;

/** Most strands of an upload: with 1 MiB in flight on each, they fill 1 Gbit/s over 100 ms. */
export const MOST_STRANDS = 12;

/** Largest JSON document, bytes: a VM's definition fits many times over. */
export const MAX_JSON = 4 * 1024 * 1024;
/** Most digests asked for at once: 1 MiB of answer, 4 GiB of disk. */
export const MAX_DIGESTS = 65536;

export const HELLO = '/v1/hello';
/** Where hosts of wire version 0 say hello: they are told that there is nothing in common. */
export const FORMER_HELLO = '/v0/hello';
export const ENROL = '/v1/enrol';

/** Paths of one relationship. Every part is checked against its pattern by the server before anything is done with it. */
export const paths = {
  replica: (id: string): string => `/v1/replicas/${encodeURIComponent(id)}`,
  log: (id: string, log: LogName): string =>
    `${paths.replica(id)}/logs/${log.sequence}/${encodeURIComponent(log.logId)}`,
  strand: (id: string, upload: string): string => `${paths.replica(id)}/strands/${upload}`,
  confirm: (id: string): string => `${paths.replica(id)}/confirm`,
  digests: (id: string, target: string): string => `${paths.replica(id)}/digests/${encodeURIComponent(target)}`,
  pages: (id: string): string => `${paths.replica(id)}/pages`,
  verify: (id: string): string => `${paths.replica(id)}/verify`,
  lease: (id: string): string => `${paths.replica(id)}/lease`,
  takeOver: (id: string): string => `${paths.replica(id)}/take-over`,
};
