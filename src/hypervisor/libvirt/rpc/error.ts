import { Failure } from '../../../model/failure.ts';
import type { XdrReader } from './xdr.ts';

/** libvirt's error numbers that we tell apart. */
export const VIR_ERR = {
  invalidArgument: 8,
  operationFailed: 9,
  domainExists: 28,
  noDomain: 42,
  noNetwork: 43,
  operationInvalid: 55,
  noSecret: 66,
  configUnsupported: 67,
  operationTimeout: 68,
  blockCopyActive: 83,
  operationUnsupported: 84,
  agentUnresponsive: 86,
  resourceBusy: 87,
  invalidCheckpoint: 102,
  noCheckpoint: 103,
  noBackup: 104,
  checkpointInconsistent: 109,
} as const;

/** An error as libvirt gave it; it is the `cause` of the Failure that is thrown. */
export class VirError extends Error {
  override readonly name = 'VirError';
  readonly code: number;
  readonly domain: number;

  constructor(code: number, domain: number, message: string) {
    super(message);
    this.code = code;
    this.domain = domain;
  }
}

/** The error body of a reply; what comes after the message (level, objects, numbers) is of no use to us. */
export function readVirError(reader: XdrReader): VirError {
  const code = reader.int();
  const domain = reader.int();
  const message = reader.optionalString();
  return new VirError(code, domain, message ?? `libvirt error ${code}`);
}

/** Whether a thrown value comes from libvirt, with one of these numbers. */
export function isVirError(error: unknown, ...codes: number[]): boolean {
  return error instanceof Failure && error.cause instanceof VirError && codes.includes(error.cause.code);
}

/** libvirt's error as one of ours, where the number alone says enough; callers that know more translate again. */
export function failureOf(error: VirError, call: string): Failure {
  const text = `${call}: ${error.message}`;
  switch (error.code) {
    case VIR_ERR.noDomain:
      return new Failure('not-found', text, { cause: error });
    case VIR_ERR.domainExists:
      return new Failure('already-exists', text, { cause: error });
    case VIR_ERR.checkpointInconsistent:
      return new Failure('tracking-lost', text, { cause: error });
    default:
      return new Failure('libvirt', text, { cause: error });
  }
}
