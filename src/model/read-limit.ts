/** How fast the disks of a VM may be read for its replication, so that its guest hardly notices; 0: as fast as they are. */
export interface ReadLimit {
  readonly bytesPerSecond: number;
  /** Reads a second, each of at most 1 MiB. */
  readonly iops: number;
}

/** What an administrator may set besides 0: less would never get through a disk. */
export const READ_LIMIT = { leastBytesPerSecond: 1024 * 1024, leastIops: 10 };

/** What is set for a relationship. */
export function readLimitOf(settings: { readonly readBytesPerSecond?: number; readonly readIops?: number }): ReadLimit {
  return { bytesPerSecond: settings.readBytesPerSecond ?? 0, iops: settings.readIops ?? 0 };
}
