import { Command, Option } from 'commander';
import { VERSION } from '../lib/version.ts';
import { addActionCommands } from './commands/action.ts';
import { addDoctorCommand } from './commands/doctor.ts';
import { addEventCommands } from './commands/event.ts';
import { addFailoverCommands } from './commands/failover.ts';
import { addLogCommands } from './commands/log.ts';
import { addNeighbourCommands } from './commands/neighbour.ts';
import { addPeerCommands } from './commands/peer.ts';
import { addPointCommands } from './commands/point.ts';
import { addReplicaCommands } from './commands/replica.ts';
import { addReplicationCommands } from './commands/replication.ts';
import { addStatusCommand } from './commands/status.ts';
import { addProofCommands } from './commands/proof.ts';
import { addVmCommands } from './commands/vm.ts';

/** Where the daemon listens unless its configuration says otherwise. */
const DEFAULT_SOCKET = '/run/understudy/understudyd.sock';

/** Every command of `understudy`. It throws instead of ending the process. */
export function createProgram(): Command {
  const program = new Command('understudy')
    .description('Replication and failover of VMs between libvirt/QEMU hosts: talks to the understudyd of this host')
    .version(VERSION)
    .option('--json', 'answer as JSON, for machines')
    .addOption(new Option('--socket <path>', 'socket of understudyd').env('UNDERSTUDY_SOCKET').default(DEFAULT_SOCKET))
    .configureHelp({ showGlobalOptions: true })
    .exitOverride();
  addStatusCommand(program);
  addDoctorCommand(program);
  addPeerCommands(program);
  addVmCommands(program);
  addReplicationCommands(program);
  addReplicaCommands(program);
  addPointCommands(program);
  addFailoverCommands(program);
  addProofCommands(program);
  addNeighbourCommands(program);
  addActionCommands(program);
  addEventCommands(program);
  addLogCommands(program);
  return program;
}
