import assert from 'node:assert/strict';
import { test } from 'node:test';
import { outsidePath } from './host-files.ts';

test('what is the host’s own lies in its directory, the rest where it is', () => {
  const outside = (path: string) => outsidePath('/tmp/us-lab-0/a', path);
  assert.equal(outside('/var/lib/understudy/x'), '/tmp/us-lab-0/a/var/lib/understudy/x');
  assert.equal(outside('/run/libvirt/libvirt-sock'), '/tmp/us-lab-0/a/run/libvirt/libvirt-sock');
  assert.equal(outside('/var/run/libvirt/libvirt-sock'), '/tmp/us-lab-0/a/run/libvirt/libvirt-sock');
  assert.equal(outside('/etc/understudy/understudyd.yaml'), '/tmp/us-lab-0/a/etc/understudy/understudyd.yaml');
  assert.equal(outside('/tmp/x'), '/tmp/x');
  assert.equal(outside('/variable'), '/variable');
});
