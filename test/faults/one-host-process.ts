/**
 * One host's daemon in a process of its own, to be killed at a crash point; the other daemon and the VMs are the parent's.
 * Usage: one-host-process.ts DIRECTORY NAME RELATIONSHIP LINK [TASK], where LINK may be `cut`, and TASK is the JSON of a `Task` of this host.
 */
import './dying.ts';
import { once } from 'node:events';
import { remoteEndpoint } from './remote-endpoint.ts';
import { remoteHypervisor } from './remote-hypervisor.ts';
import { beginTask, type Task } from './two-hosts-process.ts';
import { Host, type HostName } from './two-hosts.ts';

const [directory = '', name = '', relationship = '', link = '', task] = process.argv.slice(2);
const own = name as HostName;
const peer = remoteEndpoint(process, () => host.endpoint);
const host = await Host.open(directory, own, remoteHypervisor(own), () => peer);
host.link.cut = link === 'cut';
await host.begin();
process.send!({ of: 'ready' });
if (task !== undefined) await beginTask(host, relationship, JSON.parse(task) as Task);
await once(process, 'disconnect');
await host.close();
