/** Puts the parts of a replica's engine together. */
import { Gate } from '../lib/gate.ts';
import { asFailure } from '../model/failure.ts';
import { Applier } from './applier.ts';
import type { Confirmations } from './confirmations.ts';
import { Damage } from './damage.ts';
import { Digests } from './digests.ts';
import { DiskEngine } from './engine.ts';
import { ImagesSound } from './image-sound.ts';
import type { Inbox } from './inbox.ts';
import { ReplicaLayout } from './layout.ts';
import { Merger } from './merger.ts';
import type { ReplicaOptions } from './options.ts';
import { Questions, type QuestionParts } from './questions.ts';
import type { RecordFile } from './record.ts';
import { Room } from './room.ts';
import { Scrub } from './scrub.ts';
import { DiskShape } from './shape.ts';
import type { UndoChain } from './undo-chain.ts';
import { COMPRESSION } from './undo.ts';
import { Views } from './views.ts';

/** What is read from its directory. */
export interface Opened {
  readonly record: RecordFile;
  readonly inbox: Inbox;
  readonly chain: UndoChain;
  readonly confirmations: Confirmations;
  readonly atRest: QuestionParts['atRest'];
}

export interface Parts {
  readonly layout: ReplicaLayout;
  readonly engine: DiskEngine;
  readonly digests: Digests;
  readonly damage: Damage;
  readonly questions: Questions;
  readonly views: Views;
  readonly merger: Merger;
  readonly applier: Applier;
  readonly room: Room;
  readonly scrub: Scrub;
  /** Held while a log is applied. */
  readonly standstill: Gate;
  /** Held while undo logs come and go. */
  readonly publishing: Gate;
}

export function assemble(options: ReplicaOptions, { record, inbox, chain, confirmations, atRest }: Opened): Parts {
  const { directory, runDirectory, lanes, log, undoLevel = COMPRESSION } = options;
  const { disks, frozen } = record.value;
  const layout = new ReplicaLayout(directory);
  const standstill = new Gate();
  const publishing = new Gate();
  const engine = new DiskEngine({ runDirectory, name: 'disks', disks, log, onFailed: () => applier.suspect() });
  if (frozen) engine.forbid();
  const onDamage = (text: string): void => options.onDamage?.(text);
  const onForeign = (target: string): void =>
    onDamage(
      `disk ${target} of the replica was written while understudyd did not use it: unless that was a move, compare both sides (on the primary: understudy replication resync)`,
    );
  const digests = new Digests({ layout, disks, log, onForeign });
  const damage = new Damage(record, chain);
  const questions = new Questions({ record, engine, digests, damage, lanes, atRest });
  const flatDisks = () => engine.addresses();
  const views = new Views({ directory: layout.views, runDirectory, lanes, flatDisks, log });
  const shape = new DiskShape({ layout, record, engine, digests });
  const merger = new Merger({ layout, chain, publishing, busy: () => inbox.waiting.length > 0, log });
  const applier = new Applier({
    layout,
    record,
    inbox,
    chain,
    engine,
    lanes,
    undoLevel,
    digests,
    shape,
    damage,
    views,
    merger,
    standstill,
    publishing,
    pointOf: (received) => confirmations.pointOf(received),
    log,
    onFailure: (failure) => {
      options.onFailure?.(failure);
      if (failure?.code !== 'no-space') return;
      room.make().catch((error: unknown) => log.error({ err: asFailure(error) }, 'no room could be made'));
    },
    onReshaped: (disks) => options.onReshaped?.(disks),
    onDamage,
    look: () => scrub.look(),
  });
  const room = new Room({
    directory,
    inbox,
    applier,
    chain,
    held: () => record.value.held,
    standstill,
    publishing,
    policy: options.room,
    onGivenUp: (sequence) => options.onGivenUp?.(sequence),
  });
  const images = new ImagesSound({
    layout,
    record,
    inbox,
    chain,
    engine,
    digests,
    views,
    standstill,
    publishing,
  });
  const scrub = new Scrub({ record, questions, images, damage, chain, inbox, applier, lanes, onDamage });
  return { layout, engine, digests, damage, questions, views, merger, applier, room, scrub, standstill, publishing };
}
