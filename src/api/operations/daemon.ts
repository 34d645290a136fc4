import { nothing } from '../input.ts';
import { operation } from '../operation.ts';
import { DaemonView } from '../resources.ts';

export const daemonOperations = {
  daemonStatus: operation({
    summary: 'Show the daemon of this host: identity, libvirt, free space',
    method: 'GET',
    path: '/status',
    input: nothing,
    result: DaemonView,
    errors: [],
  }),
};
