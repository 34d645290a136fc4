/** What may happen to a protected VM besides us, what becomes of it, and which test shows that: docs/what-touches-a-vm.md is made of it. */

export interface Proof {
  /** Path of the file that holds the test. */
  readonly file: string;
  /** Name of the test or stage, as it is printed. */
  readonly test: string;
}

export interface Touch {
  /** What somebody does, or what happens. */
  readonly what: string;
  readonly understudy: string;
  /** What is to be seen of it, in Understudy or in the tool that did it. */
  readonly seen: string;
  /** None: untested, and said so. */
  readonly proofs: readonly Proof[];
}

const of =
  (file: string) =>
  (test: string): Proof => ({ file, test });
const administrator = of('test/guests/administrator.test.ts');
const conformance = of('test/conformance/hypervisor.ts');
const definition = of('src/hypervisor/libvirt/definition.test.ts');
const disks = of('test/guests/disks.test.ts');
const encrypted = of('test/guests/encrypted.test.ts');
const libvirt = of('src/hypervisor/libvirt/libvirt.libvirt.test.ts');
const migration = of('test/guests/migration.test.ts');
const neighbours = of('test/guests/neighbours.test.ts');
const newer = of('test/guests/newer-versions.test.ts');
const plug = of('test/guests/plug.test.ts');
const raw = of('test/guests/raw-disks.test.ts');
const revert = of('test/guests/revert.test.ts');

const HOST_KILLS = of('test/guests/host-kills.test.ts')('30 kills: nothing is lost, and all goes on');
const WEEK = of('test/guests/week.test.ts')(
  '8 operations of a week: replication goes on by itself, and both sides are byte-equal',
);
const WELL = 'Nothing: state, health and recovery points as ever';
const BUSY = 'libvirt’s own answer, “already in active block job” or “device in use”, in one try of many';

/** By sections of the page. */
export const TOUCHES: Readonly<Record<string, readonly Touch[]>> = {
  'Switched off, on, and again': [
    {
      what: 'the guest is shut down (`virsh shutdown`, its own menu), and started',
      understudy:
        'Reads what was written up to the end from the VM that is off, and goes on from there when it runs again',
      seen: 'The VM is off; the newest recovery point is of its last moment. A start in the second in which that is read waits, or is refused and can be tried again',
      proofs: [
        conformance('what was written up to the shutdown is read from the powered-off VM, which waits meanwhile'),
        newer('both newer'),
      ],
    },
    {
      what: '`virsh destroy`, and start',
      understudy: 'Goes on: QEMU keeps the record of changes in the disks',
      seen: WELL,
      proofs: [conformance('bitmaps outlive a power cut of the VM')],
    },
    {
      what: '`virsh managedsave`, and start',
      understudy: 'Goes on',
      seen: WELL,
      proofs: [administrator('a guest that is reset, or saved and restored')],
    },
    {
      what: '`virsh reset`, or the guest reboots',
      understudy:
        'Goes on; begins no cycle until the guest’s agent is there again, for a minute at most, because libvirt would lose the agent',
      seen: 'A cycle that comes up to a minute later',
      proofs: [
        administrator('a guest that is reset, or saved and restored'),
        libvirt('no point is opened of a guest that boots until its agent is there'),
      ],
    },
    {
      what: '`virsh suspend`, and resume',
      understudy: 'Goes on; a VM that somebody has paused stays paused',
      seen: WELL,
      proofs: [
        conformance('a frozen VM gives points, too'),
        of('test/faults/primary-scratch.qemu.test.ts')('a guest that somebody else has paused stays paused'),
      ],
    },
    {
      what: 'the guest powers off in the very second in which a cycle reads it',
      understudy: 'Ends the job and takes the cycle again from the VM that is off',
      seen: '`virsh` says “in shutdown” for up to 30 s, because libvirt waits for the job',
      proofs: [],
    },
  ],
  'Processes that end': [
    {
      what: 'libvirtd is restarted, or killed',
      understudy: 'Connects again; the guest and the record of changes live on',
      seen: 'At most one cycle that failed, `libvirt-down`',
      proofs: [
        libvirt('libvirtd killed in an open point: the call under way fails, the point is ended later'),
        of('test/guests/daemon-kills.test.ts')('libvirtd dies in the middle of a cycle'),
        HOST_KILLS,
      ],
    },
    {
      what: 'libvirtd ends in the very moment in which a cycle, or another program’s backup, is being begun',
      understudy:
        'Can’t go on: libvirt (9.0 at least) keeps that job without its data, can’t abort it, and begins no other one. Changes are recorded meanwhile',
      seen: 'Health says so, the failure’s hint has the cure: switch the VM off, restart libvirtd, start the VM. Nothing is compared or copied then',
      proofs: [
        libvirt('what a libvirtd leaves that ended while a backup was being begun is said with its cure, which works'),
      ],
    },
    {
      what: 'understudyd is restarted, or killed',
      understudy: 'Ends what its predecessor left open, asks the replica where it stands, goes on there',
      seen: 'Nothing is compared or copied again',
      proofs: [
        of('test/guests/daemon-kills.test.ts')('a clean restart of the primary takes replication up again'),
        of('test/guests/daemon-kills.test.ts')("the primary's daemon dies at each step of a cycle"),
      ],
    },
    {
      what: 'QEMU is killed, or the host loses power',
      understudy:
        'The record of changes is lost with QEMU: says so, removes what is left of it (it would stand in the way of a resize), compares both sides by digest and sends what differs',
      seen: 'Health says why (`tracking-lost`), an event `comparing`; recovery points stay. No full copy',
      proofs: [HOST_KILLS, conformance('when the hypervisor process is killed, tracking is lost: said, not guessed')],
    },
    {
      what: 'the directory for scratch files of a cycle is full, and QEMU pauses the guest',
      understudy: 'Gives the cycle up and resumes the guest at once; by the next daemon, too, if the first one died',
      seen: 'A critical event, `guest-paused`',
      proofs: [
        of('test/faults/primary-scratch.qemu.test.ts')(
          'when the daemon died in the middle of the job, it goes on with the next one',
        ),
      ],
    },
  ],
  'Snapshots and images': [
    {
      what: 'an external snapshot (`--disk-only`), and `blockcommit --pivot`',
      understudy: 'Follows the disk to its new file and back',
      seen: 'An event `disk-moved`; nothing is compared',
      proofs: [
        administrator('an external snapshot, while it is there and once it is committed'),
        libvirt("a user's snapshot between two points loses nothing, on or off, and is merged by commitOverlays"),
      ],
    },
    {
      what: '`blockcopy --pivot` (the disk moves to other storage)',
      understudy: 'Follows the disk to its new file',
      seen: 'An event `disk-moved`; nothing is compared',
      proofs: [administrator('a disk that is copied to another file, and goes on there')],
    },
    {
      what: 'an internal snapshot is made',
      understudy: 'Goes on',
      seen: WELL,
      proofs: [revert('a snapshot with memory is made, and replication goes on')],
    },
    {
      what: '`virsh snapshot-revert`',
      understudy:
        'QEMU refuses the first try because of the record of changes, and libvirt leaves the VM off. That record is removed at once; after the revert both sides are compared by digest',
      seen: 'The first try fails; event and health say “revert again” (`revert-cleared`). The second one works. Recovery points from before stay. After `understudy detach` the first one works',
      proofs: [
        revert('the revert fails, and what stood in its way is gone at once: in words'),
        revert('it works again, both sides are compared, and points from before stay'),
      ],
    },
    {
      what: '`qemu-img snapshot -a` on a VM that is off',
      understudy:
        'Nothing before the fact: `qemu-img` refuses it because of the record of changes. `understudy detach` first',
      seen: '`qemu-img` says “Device has active dirty bitmaps”',
      proofs: [
        of('src/qemu/image.qemu.test.ts')(
          'qemu-img reverts no image with a change bitmap, and says so; it does once that is removed',
        ),
        neighbours('of a VM that is off, and of bitmaps that no relationship knows'),
      ],
    },
    {
      what: 'a disk with backing files',
      understudy: 'Reads what the chain holds; the replica’s disk is one flat file',
      seen: WELL,
      proofs: [
        libvirt("a user's snapshot between two points loses nothing, on or off, and is merged by commitOverlays"),
      ],
    },
    {
      what: 'a qcow2 image on a block device (LVM and the like)',
      understudy: 'As in a file',
      seen: WELL,
      proofs: [],
    },
    {
      what: 'a raw disk, or one of another format',
      understudy: 'Refuses to replicate it, and names the disk and its format: libvirt tracks changes of qcow2 only',
      seen: '`understudy vm list` says so before; `disk-unsupported` at enabling, with the way out: [raw-disks.md](raw-disks.md). Others of the VM can be replicated with `--exclude-disk`',
      proofs: [
        definition('is described: identity, disks that are disks, why one cannot be tracked, QEMU user, agent'),
        raw('a raw disk is refused by name, with the way out'),
      ],
    },
    {
      what: 'a raw file that was put under tracking (`understudy vm track`, libvirt 10.10)',
      understudy:
        'Changes the VM’s definition when it is off, never while it runs; replicates it, fails over and back as any other',
      seen: 'An event `raw-disk-tracked` at the power-off; the raw file holds what the guest wrote, at any time',
      proofs: [
        raw('put under tracking while the guest runs, it waits for the power-off, and can be taken back'),
        raw('it is replicated, byte for byte, and followed when it is resized; the Replica VM has a plain image'),
        raw('failed over, it is the replica, in the raw disk; failed over back, the VM runs from it again'),
        raw('detached, it is the plain raw disk, and the VM boots from it'),
      ],
    },
    {
      what: 'somebody writes such a raw file past its tracking image, while the VM is off',
      understudy: 'Sees that the file is younger than its image: both sides are compared',
      seen: 'A comparison that says why. Not noticed if the VM was started before the next cycle: ask for `understudy replication resync`',
      proofs: [raw('what is written past the tracking image while the VM is off is found by a comparison')],
    },
    {
      what: 'a raw block device (LVM and the like) that was put under tracking',
      understudy:
        'As a raw file; its tracking image lies in `trackingDirectory`. What is written past it isn’t noticed',
      seen: WELL,
      proofs: [],
    },
    {
      what: 'an encrypted disk',
      understudy:
        'Refuses to replicate it by name, at enabling and whenever a disk becomes one: what libvirt gives to a backup is plain text. With `--replica-plaintext` it is replicated as plain text; see [encryption.md](encryption.md)',
      seen: '`disk-encrypted`; where it is allowed an event `replica-plaintext`',
      proofs: [
        encrypted('it is refused by name, and nothing is left of the try'),
        encrypted('allowed, it is replicated; that is said, and the Replica VM has no encrypted disk'),
        encrypted('a disk that is moved to an encrypted image follows where that is allowed, and is named'),
        encrypted('it boots on the Replica server; its old disk is not made plain by reversing'),
      ],
    },
  ],
  'Disks that change': [
    {
      what: '`virsh blockresize` while the VM runs',
      understudy: 'The replica’s disk grows with the next log',
      seen: 'An event `disks-changed`; nothing is copied. Older recovery points keep their size',
      proofs: [disks('a disk that grows while the guest runs')],
    },
    {
      what: '`qemu-img resize` while it is off, longer or shorter',
      understudy:
        'The replica’s disk follows with the next log; what was cut off is gone there, too, and stays in older points',
      seen: 'An event `disks-changed`; nothing is copied',
      proofs: [
        disks('a disk that is cut while the guest is off, with data in what is cut off'),
        disks('a failover to a point before the disk was cut starts the guest on the larger disk, and is cancelled'),
        disks('a test failover of a point has its sizes'),
      ],
    },
    {
      what: 'a disk is plugged in',
      understudy:
        'Goes on with the others; the new one is in no recovery point until somebody takes it along (`replication set --include-disk`): then it is copied, it alone',
      seen: 'Event and health say so (`disk-unprotected`)',
      proofs: [
        plug('a disk that is added is said to be in no recovery point, until it is gone again'),
        plug('a disk that is added is replicated when somebody asks for it; the others are not copied'),
      ],
    },
    {
      what: 'a disk is plugged out, and in again',
      understudy: 'Makes no recovery point without it; goes on without a comparison when it is back',
      seen: 'Health says which disk is missing (`disk-removed`)',
      proofs: [
        plug('a disk that is taken out stops replication, in words; it goes on without a comparison when it is back'),
      ],
    },
    {
      what: 'a disk is plugged out for good',
      understudy:
        'Goes on without it once somebody says so (`replication set --exclude-disk`): newer recovery points lack it, older ones keep it; its image goes with the last of them',
      seen: 'An event `disk-left`; nothing is compared',
      proofs: [plug('a disk that is gone for good is left out when somebody says so; points from before have it')],
    },
    {
      what: 'another disk takes its place',
      understudy: 'Compares both sides by digest; the other disks aren’t copied',
      seen: 'An event `comparing`',
      proofs: [plug('a disk in the place of another one is compared, and the others are not copied')],
    },
    {
      what: 'resize, plug or migrate in the second in which a cycle reads the VM',
      understudy: 'Nothing: libvirt allows one at a time. `understudy yield VM --for 10m` keeps cycles away meanwhile',
      seen: BUSY,
      proofs: [],
    },
  ],
  'Definition and place': [
    {
      what: '`virsh undefine` while it runs, and define',
      understudy: 'Goes on: no checkpoint of ours is in the way',
      seen: WELL,
      proofs: [administrator('a definition that is removed while the guest runs, and comes back'), WEEK],
    },
    {
      what: '`virsh undefine` while it is off, define, and start',
      understudy: 'Goes on when it is back',
      seen: 'Trouble is shown while the VM isn’t there',
      proofs: [WEEK],
    },
    {
      what: '`virsh edit`, virt-manager',
      understudy: 'The Replica VM’s definition follows, without passwords ([definition.md](definition.md))',
      seen: 'An event `definition-changed` that names what has',
      proofs: [administrator("a definition that is changed is the Replica VM's, too, without its secrets")],
    },
    {
      what: 'live migration to another host, with its storage or on shared storage',
      understudy:
        'Doesn’t follow it: a relationship belongs to one host. End it there with `replication remove --keep-disks`, and enable replication on the new host with the disks that the Replica server keeps ([resync.md](resync.md)): only what differs is sent. Recovery points from before go with the old relationship',
      seen: 'Health of the host that it has left is `critical` and says where to go on (`not-found`)',
      proofs: [
        migration(
          'it may be migrated live with its storage: nothing of ours is in the way, and the host that it leaves says so',
        ),
        migration('it is protected from there with the disks that the Replica server keeps: only what differs is sent'),
      ],
    },
  ],
  'Other programs': [
    {
      what: 'another program’s backup job (`virsh backup-begin`)',
      understudy: 'Waits for it, looking every 5 s; leaves it alone',
      seen: 'One event, `job-conflict`; health `warning`, and the lag counts until it is over',
      proofs: [
        neighbours('a backup job of another program is waited for, without noise'),
        libvirt("waits for another tool's backup at once, and leaves it alone"),
      ],
    },
    {
      what: 'virtnbdbackup, full and incremental, within `understudy yield`',
      understudy: 'Leaves the VM alone for so long; goes on by itself at the end',
      seen: 'Health `warning`, “left to other programs until …”',
      proofs: [
        neighbours('left alone with `understudy yield`: virtnbdbackup makes a full and an incremental backup'),
        neighbours('a yield outlives a restart, and ends by itself'),
      ],
    },
    {
      what: 'checkpoints and bitmaps of other programs',
      understudy: 'Leaves them alone; ours can’t be seen by them between two calls',
      seen: '`understudy doctor VM` lists theirs',
      proofs: [
        libvirt('a user sees no checkpoint, before, in and after a point, and no taint'),
        libvirt('an inspection tells QEMU’s user, and what others left in a VM from what is ours'),
      ],
    },
    {
      what: 'somebody removes our bitmap',
      understudy: 'Never takes a missing one for “nothing has changed”: compares both sides by digest',
      seen: 'Health says which one (`tracking-lost`)',
      proofs: [conformance('a bitmap that is not there is never taken for an empty one')],
    },
    {
      what: '`understudy detach`',
      understudy: 'Takes every bitmap, checkpoint, job and lock of ours out of the VM, running or off',
      seen: 'Resize, revert, undefine and `qemu-img` work as if we had never been',
      proofs: [
        neighbours('`understudy detach` of a running VM: resize, snapshots and undefine work as if we had never been'),
        neighbours('of a VM that is off, and of bitmaps that no relationship knows'),
      ],
    },
  ],
};
