/** Versions by program: `libvirt` → `9.0.0`, `QEMU` → `7.2.22`. */
export type Versions = Readonly<Record<string, string>>;

interface Range {
  readonly least: string;
  /** Newest that the tests run on. */
  readonly tried: string;
}

/** Debian 12's pair, and the one of its backports. */
export const SUPPORTED: Readonly<Record<string, Range>> = {
  libvirt: { least: '9.0', tried: '11.3' },
  QEMU: { least: '7.2', tried: '10.0' },
};

/** What is too old to be relied on, in words; undefined: nothing. */
export function tooOld(versions: Versions): string | undefined {
  return say(versions, (version, { least }) =>
    compare(version, least) < 0 ? `is older than ${least}, the oldest that is supported` : undefined,
  );
}

/** What is newer than the tests know, in words; undefined: nothing. */
export function untried(versions: Versions): string | undefined {
  return say(versions, (version, { tried }) =>
    compare(version, tried) > 0 ? `is newer than ${tried}, the newest that understudy was tried with` : undefined,
  );
}

/** The oldest libvirt that knows of a qcow2 image whose data are in a raw disk. */
export const RAW_TRACKED_FROM = '10.10';

/** Whether a raw disk can be put under tracking; without libvirt, QEMU itself can do it. */
export function tracksRawDisks({ libvirt }: Versions): boolean {
  return libvirt === undefined || compare(libvirt, RAW_TRACKED_FROM) >= 0;
}

function say(versions: Versions, judge: (version: string, range: Range) => string | undefined): string | undefined {
  const said = Object.entries(versions).flatMap(([program, version]) => {
    const range = SUPPORTED[program];
    const verdict = range === undefined ? undefined : judge(version, range);
    return verdict === undefined ? [] : [`${program} ${version} ${verdict}`];
  });
  return said.length === 0 ? undefined : said.join('; ');
}

/** By as many parts as the range has: 11.3.2 is as new as 11.3. */
function compare(version: string, range: string): number {
  const parts = version.split('.').map(Number);
  for (const [at, part] of range.split('.').map(Number).entries()) {
    const difference = (parts[at] ?? 0) - part;
    if (difference !== 0) return difference;
  }
  return 0;
}
