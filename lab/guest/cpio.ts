/** Something in an initrd. Paths are relative, parents come before what is in them. */
export type Entry =
  | { readonly path: string; readonly kind: 'directory' }
  | { readonly path: string; readonly kind: 'file'; readonly content: Uint8Array; readonly mode: number }
  | { readonly path: string; readonly kind: 'link'; readonly target: string };

const TYPE = { directory: 0o040000, file: 0o100000, link: 0o120000 } as const;

function pad(length: number): Buffer {
  return Buffer.alloc((4 - (length % 4)) % 4);
}

function member(inode: number, path: string, mode: number, content: Uint8Array): Buffer[] {
  const name = Buffer.from(`${path}\0`);
  // inode, mode, uid, gid, links, mtime, size, device (major, minor), special device (major, minor), name size, check
  const fields = [inode, mode, 0, 0, 1, 0, content.length, 0, 0, 0, 0, name.length, 0];
  const header = Buffer.from(`070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}`);
  return [header, name, pad(header.length + name.length), Buffer.from(content), pad(content.length)];
}

/** An archive in cpio's "newc" format, as Linux takes it for an initrd; owned by root, without times: same entries, same bytes. */
export function cpio(entries: readonly Entry[]): Buffer {
  const parts: Buffer[] = [];
  for (const [index, entry] of entries.entries()) {
    const content =
      entry.kind === 'file' ? entry.content : entry.kind === 'link' ? Buffer.from(entry.target) : Buffer.alloc(0);
    const mode = TYPE[entry.kind] | (entry.kind === 'file' ? entry.mode : 0o755);
    parts.push(...member(index + 1, entry.path, mode, content));
  }
  parts.push(...member(0, 'TRAILER!!!', 0, Buffer.alloc(0)));
  return Buffer.concat(parts);
}
