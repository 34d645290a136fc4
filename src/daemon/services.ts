/** What the daemon's own parts and the API's operations work with. */
import type { FailoverServices } from '../failover/services.ts';
import type { Log } from '../lib/log.ts';
import type { Proven } from '../model/lag.ts';
import type { PeerServer } from '../protocol/https/server.ts';
import type { Authority } from '../security/authority.ts';
import type { Enrolment } from '../security/enrolment.ts';
import type { PeerBook } from '../security/peer.ts';
import type { Scrubbing } from '../replica/scrubbing.ts';
import type { Actions } from './actions.ts';
import type { Config } from './config/read.ts';
import type { EventFeed } from './event-feed.ts';
import type { PeerClocks } from './peer-clocks.ts';
import type { PeerEndpoints } from './peers.ts';

export interface DaemonServices extends FailoverServices {
  readonly config: Config;
  readonly log: Log;
  readonly authority: Authority;
  readonly enrolment: Enrolment;
  readonly peers: PeerBook;
  readonly endpoints: PeerEndpoints;
  readonly actions: Actions<FailoverServices>;
  readonly events: EventFeed;
  readonly peerServer: () => PeerServer;
  readonly scrubbing: Scrubbing;
  readonly startedAt: number;
  readonly peerClocks: Pick<PeerClocks, 'offset' | 'skewMs'>;
  /** Of replicas: since when this host has known the latest state that is proven, by relationship. */
  readonly arrivals: Map<string, Proven>;
  /** Of replicas: what this host lacks to run the VM, in words, by relationship, as far as it has been looked at. */
  readonly lacking: Map<string, readonly string[]>;
}
