import { asFailure, Failure } from '../../model/failure.ts';
import type { Operations } from '../../api/contract.ts';
import { join } from '../../protocol/https/join.ts';
import type { Peer } from '../../security/peer.ts';
import type { DaemonServices } from '../services.ts';

type PeerOperations = Pick<Operations, 'peerList' | 'peerToken' | 'peerJoin' | 'peerRemove' | 'peerCheck'>;

export function peerOperations(services: DaemonServices): PeerOperations {
  const { peers, config, events } = services;
  const relationshipsWith = (name: string) => services.store.relationships().filter(({ peer }) => peer === name).length;
  const view = ({ name, address, caFingerprint }: Peer) => {
    return { name, address, caFingerprint, replications: relationshipsWith(name) };
  };
  const known = (name: string): Peer => {
    const peer = peers.get(name);
    if (peer === undefined) throw new Failure('not-found', `${name} is not a paired host`);
    return peer;
  };
  return {
    peerList: async () => peers.list().map(view),

    peerToken: async ({ minutes }) => {
      const { token, expires } = services.enrolment.issue({ validSeconds: (minutes ?? config.tokenMinutes) * 60 });
      return { token, expiresAt: expires };
    },

    peerJoin: async ({ token }) => {
      const { authority } = services;
      const peer = await join({ token, authority, address: config.advertise, peers });
      services.peerServer().peersChanged();
      events.add(null, 'info', 'paired', `paired with ${peer.name} (${peer.address})`);
      return view(peer);
    },

    peerRemove: async ({ peer }) => {
      known(peer);
      if (relationshipsWith(peer) > 0) {
        throw new Failure('wrong-state', `there are replication relationships with ${peer}`, {
          hint: 'Remove them first: understudy replication remove',
        });
      }
      peers.remove(peer);
      services.peerServer().peersChanged();
      events.add(null, 'warning', 'unpaired', `no longer paired with ${peer}`);
    },

    peerCheck: async ({ peer }) => {
      known(peer);
      try {
        const { version, roundTripMs, skewMs } = await services.endpoints.hello(peer);
        return { name: peer, reachable: true, version, roundTripMs, skewMs, failure: null };
      } catch (error) {
        const failure = asFailure(error).toJSON();
        return { name: peer, reachable: false, version: null, roundTripMs: null, skewMs: null, failure };
      }
    },
  };
}
