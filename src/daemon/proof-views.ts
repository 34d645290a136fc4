/** What is proven about a relationship, as the API shows it. */
import type { ScrubView, VerificationView } from '../api/resources.ts';
import { totalLength } from '../model/extent.ts';
import { bytesDone, bytesOf, NOT_VERIFIED, untilNextPass } from '../model/verification.ts';
import type { RelationshipRecord } from '../store/store.ts';
import type { DaemonServices } from './services.ts';

/** Of a relationship that this host is the primary of. */
export function verificationView(services: DaemonServices, record: RelationshipRecord): VerificationView {
  const { verification = NOT_VERIFIED, disks, protectedUntil } = record;
  const { pass, last, asked, different, repaired, repairs } = verification;
  const { replication } = services.primaries.loop(record.id);
  const at = { now: services.now(), boot: services.boot() };
  const left = untilNextPass(replication.services.verifySeconds, replication.passClock.sinceLast(verification, at));
  return {
    equalAt: repairs.length > 0 ? null : protectedUntil,
    pass:
      pass === null
        ? null
        : {
            began: pass.began,
            bytesDone: bytesDone(pass, disks),
            bytesTotal: bytesOf(disks),
            asked,
          },
    last: last === null ? null : { began: last.began, ended: last.ended, leftOutBytes: last.leftOut },
    nextDue: left === null ? null : at.now + left,
    different,
    repaired,
    unrepairedBytes: totalLength(repairs),
  };
}

/** Null where there is no replica. */
export function scrubView({ replicas, scrubbing }: DaemonServices, id: string): ScrubView | null {
  const replica = replicas.find(id);
  if (replica === undefined) return null;
  const { scrub, unsound } = replica;
  const { pass, last, found } = scrub.state;
  return {
    pass:
      pass === null
        ? null
        : { began: pass.began, bytesDone: scrub.done, bytesTotal: scrub.size, asked: scrubbing.isAsked(id) },
    last,
    nextDue: scrubbing.nextPass(replica),
    found,
    unrepairedBytes: totalLength(replica.status().damage ?? []),
    damagedPoints: replica.points().filter(({ sequence }) => unsound.has(sequence)).length,
  };
}
