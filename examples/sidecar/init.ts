// The init container: installs the rules that bring the pod's traffic to the sidecar, once, with CAP_NET_ADMIN.
// INTERCEPTION_MODE as for the sidecar.
import { execFileSync } from 'node:child_process';
import { apply, hostFamilies, onlyFamilies, planRules, sidecar } from 'original-dst/rules';

const plan = planRules(
  sidecar({ inbound: process.env['INTERCEPTION_MODE'] === 'TPROXY' ? 'tproxy' : 'redirect' }),
);
// Many clusters switch IPv6 off in their pods, and then no route of IPv6 can be made.
const families = hostFamilies();
await apply(onlyFamilies(plan, families));
if (families.includes('IPv6')) addPassthroughAddress();
else console.log('IPv6 is switched off here: the rules are for IPv4 alone');
console.log('rules are in place');

/** The sidecar dials IPv6 workloads from ::6, which no host has by itself. All of 127.0.0.0/8 is there already. */
function addPassthroughAddress(): void {
  try {
    execFileSync('ip', ['-6', 'address', 'replace', '::6/128', 'dev', 'lo', 'nodad'], { stdio: 'pipe' });
  } catch (error) {
    console.log(
      `no ::6 on loopback, so IPv6 workloads cannot be dialled: ${(error as Error).message.trim()}`,
    );
  }
}
