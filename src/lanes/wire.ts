/** What a lane and its owner say to each other. Errors travel as data: cloning would lose what kind they are. */
import { Failure, type FailureJson } from '../model/failure.ts';

export interface ErrorData {
  readonly failure?: FailureJson;
  readonly message: string;
  readonly name: string;
  /** Of a system error: `ENOSPC` and the like. */
  readonly code?: string;
  readonly stack?: string;
}

export type ToLane =
  | {
      readonly kind: 'run';
      readonly id: number;
      readonly module: string;
      readonly name: string;
      readonly input: unknown;
    }
  | { readonly kind: 'abort'; readonly id: number; readonly reason: ErrorData }
  | { readonly kind: 'answer'; readonly id: number; readonly question: number; readonly value: unknown }
  | { readonly kind: 'refusal'; readonly id: number; readonly question: number; readonly error: ErrorData };

export type FromLane =
  | { readonly kind: 'done'; readonly id: number; readonly value: unknown }
  | { readonly kind: 'failed'; readonly id: number; readonly error: ErrorData }
  | { readonly kind: 'told'; readonly id: number; readonly message: unknown }
  | { readonly kind: 'asked'; readonly id: number; readonly question: number; readonly content: unknown };

export function encodeError(error: unknown): ErrorData {
  if (error instanceof Failure) return { failure: error.toJSON(), message: error.message, name: error.name };
  if (!(error instanceof Error)) return { message: String(error), name: 'Error' };
  const { message, name, stack } = error;
  const { code } = error as NodeJS.ErrnoException;
  return {
    message,
    name,
    ...(stack === undefined ? {} : { stack }),
    ...(typeof code === 'string' ? { code } : {}),
  };
}

export function decodeError(data: ErrorData): Error {
  if (data.failure !== undefined) return Failure.fromJson(data.failure);
  const error = new Error(data.message);
  error.name = data.name;
  if (data.stack !== undefined) error.stack = data.stack;
  return data.code === undefined ? error : Object.assign(error, { code: data.code });
}
