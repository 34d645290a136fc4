/** Every option of `understudyd`: type, default and description, in one table. The reference comes from it too. */
import * as z from 'zod';

const KIB = 1024;
const UNITS: Record<string, number> = { '': 1, k: KIB, m: KIB ** 2, g: KIB ** 3, t: KIB ** 4 };

const path = z.string().regex(/^\//, 'must be an absolute path');
const port = z.int().min(1).max(65_535);

/** A size: a number of bytes, or text as `4 GiB`. */
function size(minimum: number, minimumText: string) {
  return z
    .union([z.int(), z.string().regex(/^\s*\d+(\.\d+)?\s*([kmgt]i?)?b?\s*$/i, 'must be a size, such as 4 GiB')])
    .transform(parseSize)
    .refine((bytes) => bytes >= minimum, `must be at least ${minimumText}`);
}

function parseSize(value: number | string): number {
  if (typeof value === 'number') return value;
  const match = /([\d.]+)\s*([kmgt]?)/i.exec(value);
  return Math.floor(Number(match?.[1]) * (UNITS[match?.[2]?.toLowerCase() ?? ''] ?? 1));
}

const hostName = z
  .string()
  .regex(/^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/, 'must be lower-case letters, digits, "-" and "." (at most 253)');

export const options = z.strictObject({
  name: hostName
    .optional()
    .describe('Name of this host among its peers; part of its certificate. Default: the host name, lower-case.'),
  listen: z
    .strictObject({
      address: z.string().min(1).default('::').describe('Address for peers; `::` is every address, IPv4 too.'),
      port: port.default(7443).describe('Port for peers (HTTPS, mutual TLS).'),
    })
    .prefault({})
    .describe('Where this host waits for its peers.'),
  advertise: z
    .string()
    .regex(/^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+):\d{1,5}$/, 'must be host:port')
    .optional()
    .describe('host:port that peers are given. Default: the name and the port of `listen`.'),
  socket: path.default('/run/understudy/understudyd.sock').describe('Unix socket of the REST API and the CLI (0600).'),
  stateDirectory: path
    .default('/var/lib/understudy')
    .describe(
      'Database, keys, journal: what this host must not forget. `primaries` in it says once more what is replicated from here, in case the database is lost; `digests` (0.025 % of the size of each replicated disk) may be lost.',
    ),
  runDirectory: path.default('/run/understudy').describe('Sockets and other files of the running daemon.'),
  replicaDirectory: path
    .optional()
    .describe(
      'Replica disks, received logs and undo logs. Needs the room. Default: `replicas` in the state directory.',
    ),
  outboxDirectory: path
    .optional()
    .describe('Logs that are read and not yet acknowledged. Default: `outbox` in the state directory.'),
  pointDirectory: path
    .default('/var/lib/libvirt/understudy')
    .describe("Sockets and scratch files of a point in time; QEMU's user must be able to reach it."),
  trackingDirectory: path
    .optional()
    .describe(
      'Tracking images of raw block devices (`understudy vm track`); that of a raw file lies beside it. As long as the VM is defined on one it ' +
        'does not start without it. Default: `tracking` in the state directory.',
    ),
  hypervisor: z
    .enum(['libvirt', 'qsd'])
    .default('libvirt')
    .describe(
      'Whose VMs are replicated. `qsd`: disks without guests, which this daemon itself opens by qemu-storage-daemon and offers ' +
        'by NBD in `runDirectory`/vms; they are defined by files in `stateDirectory`/vms.',
    ),
  libvirtSocket: path
    .optional()
    .describe('Socket of libvirtd or virtqemud. Default: found where either of them has it.'),
  networks: z
    .record(z.string().min(1), z.string().min(1))
    .default({})
    .describe(
      'What networks and bridges that VMs of other hosts are connected to are called here, by their names there: `{prod: dr-net, br0: br7}`. ' +
        'For Replica VMs on this host; one that is not named keeps its name.',
    ),
  logLevel: z
    .enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal'])
    .default('info')
    .describe('What is logged, to standard error, one JSON object a line.'),
  compression: z
    .union([z.int().min(1).max(9), z.literal(['auto', 'none'], { error: 'must be auto, none or a level from 1 to 9' })])
    .default('auto')
    .describe(
      'How hard what is sent is packed: a level of zstd, 1 (fast) to 9 (small), `none`, or `auto`: 1 as the rule, higher while a slow ' +
        'link is what takes the time, nothing where packing keeps a backup job open and the link takes everything as it is. What ' +
        'does not get smaller is sent as it is in any case. With `none` this host keeps the older points of its replicas as they are, too.',
    ),
  openPoints: z
    .int()
    .min(1)
    .max(1000)
    .optional()
    .describe(
      'Points in time that are open, and read, at once, over all VMs; the others wait, whoever has been due for longest first. ' +
        'Default: two for each core.',
    ),
  outbox: z
    .strictObject({
      maxBytes: size(64 * KIB ** 2, '64 MiB')
        .prefault('4 GiB')
        .describe('Most that the outbox of one VM holds. When more has changed, it is sent in slices.'),
    })
    .prefault({})
    .describe('What waits for the network.'),
  replica: z
    .strictObject({
      reserve: size(0, '0')
        .optional()
        .describe(
          'Room on the file system of `replicaDirectory` that receiving leaves free, for what has been received. ' +
            'Default: a twentieth of the file system, 1 GiB at most.',
        ),
      whenFull: z
        .enum(['wait', 'oldest-points'])
        .default('wait')
        .describe(
          'What happens when there is no more: replication waits until there is, or the oldest recovery points are given up first.',
        ),
    })
    .prefault({})
    .describe('The room of replicas.'),
  slice: z
    .strictObject({
      bytes: size(KIB ** 2, '1 MiB')
        .prefault('256 MiB')
        .describe('Bytes of disk that one short job reads, in the initial copy and when catching up.'),
    })
    .prefault({})
    .describe('How whole disks and large changes are cut.'),
  resync: z
    .strictObject({
      readBytesPerSecond: size(0, '0')
        .prefault('100 MiB')
        .describe(
          "Bytes of a VM's disks that a comparison of both sides reads a second at most, so that the guest keeps its I/O; 0: no limit. " +
            'A VM with a read limit of its own (`--read-limit`) is held to that instead.',
        ),
    })
    .prefault({})
    .describe('How both sides are compared when they have to be.'),
  verify: z
    .strictObject({
      passDays: z
        .number()
        .min(0)
        .max(365)
        .default(7)
        .describe(
          'In so many days all that a primary has is compared with what its replica reads, a slice along with each cycle; 0: only ' +
            'when `understudy verify` asks for it.',
        ),
    })
    .prefault({})
    .describe('How both sides are proven to hold the same.'),
  scrub: z
    .strictObject({
      passDays: z
        .number()
        .min(0)
        .max(365)
        .default(30)
        .describe(
          'In so many days a Replica server reads all that lies there at rest, and checks it; 0: only when `understudy scrub` asks ' +
            'for it.',
        ),
    })
    .prefault({})
    .describe('How damage on the disks of a Replica server is found.'),
  startPolicy: z
    .enum(['when-known', 'never-alone'])
    .default('when-known')
    .describe(
      'When a protected VM with autostart is started after a restart of the host: once the peer has said that it has ' +
        'not taken over; `when-known` waits `startPolicyMinutes` for that and then starts it with a loud warning, ' +
        '`never-alone` waits.',
    ),
  startPolicyMinutes: z.number().min(0).max(1440).default(5).describe('How long `when-known` waits, in minutes.'),
  tokenMinutes: z.int().min(1).max(1440).default(15).describe('How long an enrolment token works, in minutes.'),
});

/** A configuration as written; nothing is required. */
export type ConfigFile = z.input<typeof options>;
/** As written, with the defaults of the table. */
export type CheckedOptions = z.output<typeof options>;
