/** What is proven of a relationship, as text. */
import type { Replication } from './replication-text.ts';
import { bytes, progressBar, timeOfDay } from './words.ts';

type Pass = NonNullable<NonNullable<Replication['scrub']>['pass']>;

export function passText({ bytesDone, bytesTotal }: Pass): string {
  return `${progressBar(bytesDone, bytesTotal)} ${bytes(bytesDone)} of ${bytes(bytesTotal)}`;
}

/** Of a primary. */
export function verificationText({ verification }: Replication): string | undefined {
  if (verification === null) return undefined;
  const { equalAt, pass, last, nextDue, different, repaired, unrepairedBytes } = verification;
  const equal =
    unrepairedBytes > 0
      ? `${bytes(unrepairedBytes)} are known to differ, and are sent again`
      : equalAt === null
        ? 'nothing is proven yet'
        : `equal at ${timeOfDay(equalAt)} (chain)`;
  const whole =
    last === null ? 'no full pass yet' : `last full pass ${timeOfDay(last.began)} to ${timeOfDay(last.ended)}`;
  const next =
    pass === null
      ? nextDue === null
        ? 'next when asked for'
        : `next due ${timeOfDay(nextDue)}`
      : `now ${passText(pass)}`;
  const ever = different === 0 ? [] : [`${different} blocks differed so far, ${repaired} mended`];
  return [`${equal}; ${whole}; ${next}`, ...ever].join('\n');
}

/** Of a Replica server. */
export function scrubText({ scrub }: Replication): string | undefined {
  if (scrub === null) return undefined;
  const { pass, last, nextDue, found, unrepairedBytes, damagedPoints } = scrub;
  const whole =
    last === null
      ? 'not checked as a whole yet'
      : `checked as a whole ${timeOfDay(last.began)} to ${timeOfDay(last.ended)}`;
  const next =
    pass === null
      ? nextDue === null
        ? 'next when asked for'
        : `next due ${timeOfDay(nextDue)}`
      : `now ${passText(pass)}`;
  const damage = [
    ...(found === 0 ? [] : [`${found} pieces of damage found so far`]),
    ...(unrepairedBytes === 0 ? [] : [`${bytes(unrepairedBytes)} of the disks wait to be sent again`]),
    ...(damagedPoints === 0 ? [] : [`${damagedPoints} recovery points are not whole`]),
  ];
  return [`${whole}; ${next}`, ...(damage.length === 0 ? [] : [damage.join(', ')])].join('\n');
}
