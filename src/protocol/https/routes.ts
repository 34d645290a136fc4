import { Failure } from '../../model/failure.ts';
import type { ReplicaEndpoint } from '../endpoint.ts';
import {
  ConfirmShape,
  DigestRangeShape,
  IdShape,
  LeaseShape,
  LogNameShape,
  OffsetShape,
  PageQuestionShape,
  PrepareShape,
  read,
  RemoveShape,
  TakeOverShape,
  TargetShape,
  UploadShape,
  VerifyQuestionShape,
} from './messages.ts';
import type { FirstStrand } from './remote-request.ts';

/** A peer's request to the replica, as far as it has been taken apart. Everything in it is still unchecked. */
export interface PeerRequest {
  readonly method: string;
  /** Decoded parts of the path after `/v1/replicas/`. */
  readonly path: readonly string[];
  readonly query: Readonly<Record<string, string>>;
  readonly signal: AbortSignal;
  json(): Promise<unknown>;
  /** The body is a log's bytes, or the first strand of an upload of that name. */
  upload(strands?: FirstStrand): AsyncIterable<Uint8Array>;
  /** The body is another strand of that upload. */
  join(upload: string): Promise<void>;
}

/** A document, or bytes as they are, or nothing to say. */
export type Answer = object | Uint8Array | undefined;

/** Does what a request on `/v1/replicas/…` asks for. Checks every part of it first; see PROTOCOL.md for the table. */
export async function serve(request: PeerRequest, endpoint: ReplicaEndpoint): Promise<Answer> {
  const { method, path, query } = request;
  const id = read(IdShape, path[0], 'relationship id');
  const action = path.length === 1 ? method : `${method} ${path[1]}/${path.length - 2}`;

  switch (action) {
    case 'GET':
      return endpoint.status(id);
    case 'PUT': {
      const prepare = read(PrepareShape, await request.json(), 'request to prepare a replica');
      if (prepare.id !== id) throw new Failure('bad-request', `The body is about ${prepare.id}, the path about ${id}`);
      return endpoint.prepare(prepare);
    }
    case 'DELETE':
      await endpoint.remove(id, read(RemoveShape, query, 'query'));
      return undefined;
    case 'POST confirm/0': {
      const { position, instant } = read(ConfirmShape, await request.json(), 'confirmation');
      return endpoint.confirm(id, position, instant);
    }
    case 'POST lease/0': {
      const { seconds } = read(LeaseShape, await request.json(), 'request for a lease');
      if (endpoint.lease === undefined) throw new Failure('not-found', 'This host grants no leases');
      return endpoint.lease(id, seconds);
    }
    case 'POST take-over/0':
      return endpoint.takeOver(id, read(TakeOverShape, await request.json(), 'request to take over'));
    case 'GET digests/1': {
      const target = read(TargetShape, path[2], 'disk target');
      return endpoint.digests(id, { target, ...read(DigestRangeShape, query, 'query') });
    }
    case 'POST pages/0': {
      const question = read(PageQuestionShape, await request.json(), 'question about pages');
      if (endpoint.pageDigests === undefined)
        throw new Failure('not-found', 'This host answers no question about pages');
      return endpoint.pageDigests(id, question, request.signal);
    }
    case 'POST verify/0': {
      const question = read(VerifyQuestionShape, await request.json(), 'question to verify');
      if (endpoint.verify === undefined) throw new Failure('not-found', 'This host compares nothing');
      return endpoint.verify(id, question, request.signal);
    }
    case 'GET logs/2':
      return { durable: await endpoint.durableOffset(id, logName(path)) };
    case 'PUT logs/2': {
      const { offset, upload } = read(OffsetShape, query, 'query');
      const body = request.upload(upload === undefined ? undefined : { name: upload, offset });
      return endpoint.put(id, logName(path), offset, body, request.signal);
    }
    case 'PUT strands/1':
      await request.join(read(UploadShape, path[2], 'upload'));
      return undefined;
    default:
      throw new Failure('not-found', `There is no ${method} of this path`, {
        hint: 'Both hosts must run versions of understudy that know each other; upgrade the older one.',
      });
  }
}

function logName(path: readonly string[]): ReturnType<typeof LogNameShape.parse> {
  return read(LogNameShape, { sequence: path[2], logId: path[3] }, 'log name');
}
