import { runHypervisorConformance } from '../../../test/conformance/hypervisor.ts';
import { LibvirtFixture } from '../../../test/conformance/libvirt-fixture.ts';

runHypervisorConformance('libvirt', () => LibvirtFixture.create());
