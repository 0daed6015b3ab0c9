// The init container: installs the rules that bring the pod's traffic to the sidecar, once, with CAP_NET_ADMIN.
// INTERCEPTION_MODE as for the sidecar.
import { execFileSync } from 'node:child_process';
import { apply, planRules, sidecar } from 'original-dst/rules';

await apply(
  planRules(sidecar({ inbound: process.env['INTERCEPTION_MODE'] === 'TPROXY' ? 'tproxy' : 'redirect' })),
);
try {
  // The sidecar dials IPv6 workloads from ::6, which no host has by itself. All of 127.0.0.0/8 is there already.
  execFileSync('ip', ['-6', 'address', 'replace', '::6/128', 'dev', 'lo', 'nodad'], { stdio: 'pipe' });
} catch (error) {
  console.log(`no ::6 on loopback, so IPv6 workloads cannot be dialled: ${(error as Error).message.trim()}`);
}
console.log('rules are in place');
