import { Failure } from '../model/failure.ts';
import type { Replication } from './replication.ts';

/** So many logs in a row, each captured anew and sent several times: then what they are made from isn't trusted any more. */
const COMPARE_AT = 2;
/** And so many, with both sides compared in between: then somebody has to look. */
const LASTING_AT = 4;

/**
 * The replica has refused so many logs in a row as damaged, each of which was captured anew. What can't be healed by that, as a log whose
 * references lead astray, is left behind by a comparison of both sides, which believes nothing that is known of either; and what not even
 * that heals is a failure of its own, `log-refused`. @returns the failure that is to be told.
 */
export function refusedLogs(replication: Replication, failure: Failure, times: number): Failure {
  const { peer, vmName } = replication.record;
  if (times === COMPARE_AT) {
    const text = `${peer} has refused ${times} logs of ${vmName} as damaged (${failure.message}): the next agreement compares both sides`;
    replication.services.event('warning', 'logs-refused', text);
    replication.update({ bitmap: null, copy: null });
  }
  if (times < LASTING_AT) return failure;
  return new Failure('log-refused', `${peer} refuses every log of ${vmName} as damaged: ${failure.message}`, {
    cause: failure,
  });
}
