/** Keys of encrypted disks, which libvirt keeps: wanted only while a VM is off, when it isn't libvirt that opens its disks. */
import { Failure } from '../../model/failure.ts';
import type { SecretName } from './domain-xml.ts';
import type { Calls } from './rpc/calls.ts';
import { VirError } from './rpc/error.ts';

/** What a disk is opened with. Failure `disk-encrypted` when libvirt doesn't tell, or it isn't known which secret it is. */
export async function keyOf(calls: Calls, target: string, secret: SecretName | undefined): Promise<Buffer> {
  if (secret === undefined)
    throw untold(target, 'an image under it is encrypted, with a key of its own', "Merge the disk's images into one.");
  try {
    return await calls.secretValue(await calls.lookupSecret(secret));
  } catch (error) {
    if (!(error instanceof Failure) || !(error.cause instanceof VirError)) throw error;
    const cure =
      "To have it read while it is off, too: take libvirt's secret away and define it anew with private='no' (`virsh secret-undefine`, " +
      '`secret-define`, `secret-set-value`).';
    throw untold(target, `libvirt doesn't tell its key: ${error.cause.message}`, cure);
  }
}

function untold(target: string, why: string, cure: string): Failure {
  return new Failure('disk-encrypted', `the VM is off, and its encrypted disk ${target} can't be opened: ${why}`, {
    hint: `Start the VM: while it runs this isn't needed. ${cure} See docs/encryption.md.`,
  });
}
