/** Whether a paired host can be replicated to: its name, its port, who answers there, and its clock. */
import type { FailureJson } from '../../model/failure.ts';
import { SKEW_LIMIT_MS } from '../../model/lag.ts';
import { critical, ok, warning, type Finding } from './finding.ts';

export interface PeerFacts {
  readonly name: string;
  readonly host: string;
  readonly port: number;
  /** IP addresses that the host's name stands for, or why it has none. */
  readonly addresses: readonly string[] | { readonly error: string };
  /** True: something listens on the port; otherwise why no connection was made. Undefined: not tried. */
  readonly connection?: true | { readonly error: string };
  /** What answered there. Undefined: not asked. */
  readonly hello?: { readonly version: string; readonly skewMs: number; readonly roundTripMs: number } | FailureJson;
}

export function judgePeer(facts: PeerFacts): Finding[] {
  const { name, host, port, addresses, connection, hello } = facts;
  const subject = (what: string) => `peer ${name}: ${what}`;
  const findings: Finding[] = [];
  if ('error' in addresses) {
    const cure = `Put ${host} into the DNS or /etc/hosts of this host, or set \`advertise\` on ${name} to an address and pair anew.`;
    return [critical(subject('name'), `${host} can't be resolved here: ${addresses.error}`, cure)];
  }
  findings.push(
    ok(subject('name'), addresses.includes(host) ? `${host}, an address` : `${host} is ${addresses.join(', ')}`),
  );
  if (connection !== undefined && connection !== true) {
    const cure = `Check that understudyd runs on ${name}, listens on port ${port}, and that no firewall is between the hosts.`;
    return [...findings, critical(subject('port'), `no connection to ${host} port ${port}: ${connection.error}`, cure)];
  }
  if (connection === true) findings.push(ok(subject('port'), `port ${port} is open`));
  if (hello === undefined) return findings;
  if ('code' in hello) return [...findings, critical(subject('answer'), hello.message, hello.hint)];
  const { version, skewMs, roundTripMs } = hello;
  findings.push(
    ok(subject('answer'), `understudy ${version}, in ${roundTripMs.toFixed(1)} ms`),
    judgeClock(name, skewMs),
  );
  return findings;
}

function judgeClock(name: string, skewMs: number): Finding {
  const subject = `peer ${name}: clock`;
  const size = Math.abs(skewMs);
  if (size <= SKEW_LIMIT_MS) return ok(subject, `${size} ms apart`);
  const found = `${Math.round(size / 1000)} s ${skewMs > 0 ? 'ahead of' : 'behind'} this host's; recovery points carry the primary's time`;
  return warning(
    subject,
    found,
    'Let NTP keep both clocks (chrony, systemd-timesyncd); docs/clocks.md says what goes by which.',
  );
}
