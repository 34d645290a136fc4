/** What a task on a lane gets besides its input. */
export interface LaneContext {
  /** Aborted when the task's owner wants it to end. */
  readonly signal: AbortSignal;
  /** Tells the owner something; nobody waits. */
  tell(message: unknown): void;
  /** Asks the owner; rejects with what the owner threw. */
  ask<T>(question: unknown): Promise<T>;
}
