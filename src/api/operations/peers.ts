import * as z from 'zod';
import { nothing } from '../input.ts';
import { NOTHING, operation } from '../operation.ts';
import { PeerCheckView, PeerView, TokenView } from '../resources.ts';

const peer = z.string().min(1).describe('name of the peer');

export const peerOperations = {
  peerList: operation({
    summary: 'List the hosts that this one is paired with',
    method: 'GET',
    path: '/peers',
    input: nothing,
    result: z.array(PeerView),
    errors: [],
  }),
  peerToken: operation({
    summary: 'Make a one-time token with which another host joins',
    method: 'POST',
    path: '/peer-tokens',
    input: z.strictObject({
      minutes: z.int().min(1).max(1440).optional().describe('how long it works; the configuration has the default'),
    }),
    result: TokenView,
    errors: [],
  }),
  peerJoin: operation({
    summary: 'Pair with the host that made a token',
    method: 'POST',
    path: '/peers',
    input: z.strictObject({ token: z.string().min(1) }),
    result: PeerView,
    errors: ['token-invalid', 'already-exists', 'unreachable', 'timeout', 'peer-identity', 'peer-refused'],
  }),
  peerRemove: operation({
    summary: 'End a pairing: the peer gets nothing any more',
    description: 'Refused with `wrong-state` while a replication relationship with it is left on this host.',
    method: 'DELETE',
    path: '/peers/:peer',
    input: z.strictObject({ peer }),
    result: NOTHING,
    errors: ['not-found', 'wrong-state'],
  }),
  peerCheck: operation({
    summary: 'Ask a peer for a sign of life; measures round trip and clock skew',
    description: 'A peer that is not reachable is an answer, not an error.',
    method: 'POST',
    path: '/peers/:peer/check',
    input: z.strictObject({ peer }),
    result: PeerCheckView,
    errors: ['not-found'],
  }),
};
