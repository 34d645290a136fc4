import { XmlDocument, type XmlElement } from 'libxml2-wasm';
import { attribute, element, withXml } from './domain-xml.ts';

/** Name under which the dirty extents are exported: the NBD meta context is `qemu:dirty-bitmap:` and this. */
export const EXPORTED_BITMAP = 'since';

export interface BackupRequest {
  readonly socketPath: string;
  /** Scratch file by target. */
  readonly scratch: ReadonlyMap<string, string>;
  /** Checkpoint from which changes count; null = everything. */
  readonly since: string | null;
}

/** A pull-mode backup of the disks that have a scratch file: one instant, read-only NBD exports named by target. */
export function backupXml({ socketPath, scratch, since }: BackupRequest): string {
  return build('domainbackup', (backup) => {
    backup.setAttr('mode', 'pull');
    if (since !== null) backup.addElement('incremental').addText(since);
    const server = backup.addElement('server');
    server.setAttr('transport', 'unix');
    server.setAttr('socket', socketPath);
    const disks = backup.addElement('disks');
    for (const [target, file] of scratch) {
      const disk = disks.addElement('disk');
      disk.setAttr('name', target);
      disk.setAttr('backup', 'yes');
      disk.setAttr('type', 'file');
      disk.setAttr('exportname', target);
      if (since !== null) disk.setAttr('exportbitmap', EXPORTED_BITMAP);
      disk.addElement('driver').setAttr('type', 'qcow2');
      disk.addElement('scratch').setAttr('file', file);
    }
  });
}

/** A checkpoint on the named disks only; its bitmaps are called as it is. */
export function checkpointXml(name: string, targets: readonly string[]): string {
  return build('domaincheckpoint', (checkpoint) => {
    checkpoint.addElement('name').addText(name);
    // a time is only wanted of a redefined one, and used for nothing
    checkpoint.addElement('creationTime').addText('1');
    const disks = checkpoint.addElement('disks');
    for (const target of targets) {
      const disk = disks.addElement('disk');
      disk.setAttr('name', target);
      disk.setAttr('checkpoint', 'bitmap');
      disk.setAttr('bitmap', name);
    }
  });
}

/** Socket of an open backup job's NBD server; undefined for one that has none (push mode, TCP). */
export function socketOfBackup(xml: string): string | undefined {
  return withXml(xml, (document) => attribute(element(document, '/domainbackup/server'), 'socket'));
}

function build(root: string, fill: (root: XmlElement) => void): string {
  const document = XmlDocument.create();
  try {
    fill(document.createRoot(root));
    return document.toString({ noDeclaration: true });
  } finally {
    document.dispose();
  }
}
