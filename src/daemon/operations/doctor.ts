import type { Operations } from '../../api/contract.ts';
import { examine } from '../doctor/doctor.ts';
import { worstOf } from '../doctor/finding.ts';
import type { DaemonServices } from '../services.ts';

export function doctorOperations(services: DaemonServices): Pick<Operations, 'doctor'> {
  return {
    doctor: async (asked) => {
      const findings = await examine(services, asked);
      return { worst: worstOf(findings), findings };
    },
  };
}
