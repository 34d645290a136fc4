/** What an operation of the API is, as data: from it come validation, routes, the typed client and OpenAPI. */
import * as z from 'zod';
import type { FailureCode } from '../model/failure.ts';

/** Everything is below it; it changes when a client would break. */
export const BASE_PATH = '/api/v0';

/** Result of an operation that answers nothing (status 204). */
export const NOTHING = z.void();

export interface Operation {
  readonly summary: string;
  /** More than the summary says, for the reference. */
  readonly description?: string;
  readonly method: 'GET' | 'POST' | 'PATCH' | 'DELETE';
  /** Below BASE_PATH; `:name` stands for the input's field of that name. */
  readonly path: string;
  /**
   * Path, query and body as one object. A field that the path doesn't name travels in the query for GET and DELETE, in
   * a JSON body otherwise. Unknown fields are refused.
   */
  readonly input: z.ZodObject;
  /** Of one item, for a stream. */
  readonly result: z.ZodType;
  /** True: the answer is a stream of server-sent events, each an item; it goes on until either side ends it. */
  readonly stream: boolean;
  /** Codes it may fail with, besides those of every operation (`COMMON_ERRORS`). */
  readonly errors: readonly FailureCode[];
}

/** Any operation may fail with these. */
export const COMMON_ERRORS = ['bad-request', 'internal'] as const satisfies readonly FailureCode[];

type Definition<I, R> = Omit<Operation, 'input' | 'result' | 'stream'> & { readonly input: I; readonly result: R };

/** An operation that answers once. */
export function operation<I extends z.ZodObject, R extends z.ZodType>(definition: Definition<I, R>) {
  return { ...definition, stream: false as const };
}

/** An operation that answers with a stream of items. */
export function streaming<I extends z.ZodObject, R extends z.ZodType>(definition: Definition<I, R>) {
  return { ...definition, stream: true as const };
}

/** Where each field of the input travels. */
export function fieldPlaces(of: Operation): { path: string[]; query: string[]; body: string[] } {
  const path = [...of.path.matchAll(/:(\w+)/g)].map((match) => match[1]!);
  const others = Object.keys(of.input.shape).filter((name) => !path.includes(name));
  const inQuery = of.method === 'GET' || of.method === 'DELETE';
  return { path, query: inQuery ? others : [], body: inQuery ? [] : others };
}

/** Status of the answer when all went well. */
export function successStatus(of: Operation): 200 | 204 {
  return of.result === NOTHING ? 204 : 200;
}
