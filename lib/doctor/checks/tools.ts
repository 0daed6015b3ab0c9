// Are the programs there that install rules?
import type { Check } from '../context.ts';
import { type Finding, Findings } from '../finding.ts';

const finding = new Findings('tools');

/** Which programs are asked for, and how to see that they are there without changing anything. */
const TOOLS = [
  { name: 'nft', args: ['--version'], needed: 'to apply rules and to read them' },
  { name: 'ip', args: ['-V'], needed: 'for the routes that TPROXY needs' },
  { name: 'ss', args: ['-V'], needed: 'to see listening sockets' },
  { name: 'unshare', args: ['-V'], needed: 'to try things in a scratch namespace' },
];
const REMEDY = 'apt-get install nftables iproute2 util-linux';

/** The programs that this package calls. */
export const tools: Check = async ({ host }) => {
  const answers = await Promise.all(
    TOOLS.map(async (tool) => ({ tool, ...(await host.run(tool.name, tool.args)) })),
  );
  const findings: Finding[] = [];
  const missing = answers.filter(({ status }) => status === null).map(({ tool }) => tool);
  if (missing.length > 0) {
    findings.push(
      finding.warning(
        `not installed: ${missing.map(({ name }) => name).join(', ')}`,
        missing.map(({ name, needed }) => `${name} is needed ${needed}.`).join(' '),
        REMEDY,
      ),
    );
  }
  // Its unshare(1) does all that is asked of it.
  const limited = answers.find(
    ({ tool, stdout, stderr }) => tool.name === 'ip' && /busybox/i.test(stdout + stderr),
  );
  if (limited) {
    findings.push(
      finding.warning(
        'ip is that of BusyBox',
        'It has neither -json nor the options of `ip rule` that TPROXY needs: rules of mode tproxy cannot be applied with it, nor routes be checked. REDIRECT does without.',
        'apk add iproute2 || opkg install ip-full',
      ),
    );
  }
  if (findings.length > 0) return findings;
  const versions = answers.map(({ stdout }) => stdout.split('\n')[0]!.trim());
  return [finding.ok('nft, ip, ss and unshare are installed', `${versions.join('; ')}.`)];
};
