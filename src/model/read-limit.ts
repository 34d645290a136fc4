/** How fast the disks of a VM may be read for its replication, so that its guest hardly notices; 0: as fast as they are. */
export interface ReadLimit {
  readonly bytesPerSecond: number;
  /** Reads a second, each of at most 1 MiB. */
  readonly iops: number;
}

/** What an administrator may set besides 0: less would never get through a disk. */
export const READ_LIMIT = { leastBytesPerSecond: 1024 * 1024, leastIops: 10 };

interface Settings {
  readonly readBytesPerSecond?: number;
  readonly readIops?: number;
}

/** What is set for a relationship. */
export function readLimitOf(settings: Settings): ReadLimit {
  return { bytesPerSecond: settings.readBytesPerSecond ?? 0, iops: settings.readIops ?? 0 };
}

/**
 * The same while whole disks are compared: the host's limit, `bytesPerSecond`, where the relationship has none of its own. Such reading
 * goes on for minutes, and as fast as the disks are it makes a guest wait.
 */
export function compareLimitOf(settings: Settings, bytesPerSecond: number): ReadLimit {
  const own = readLimitOf(settings);
  return own.bytesPerSecond > 0 || own.iops > 0 ? own : { bytesPerSecond, iops: 0 };
}
