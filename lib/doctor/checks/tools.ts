// Are the programs there that install rules?
import type { Check } from '../context.ts';
import { Findings } from '../finding.ts';

const finding = new Findings('tools');

/** Which programs are asked for, and how to see that they are there without changing anything. */
const TOOLS = [
  { name: 'nft', args: ['--version'], needed: 'to apply rules and to read them' },
  { name: 'ip', args: ['-V'], needed: 'for the routes that TPROXY needs' },
  { name: 'ss', args: ['-V'], needed: 'to see listening sockets' },
  { name: 'unshare', args: ['-V'], needed: 'to try things in a scratch namespace' },
];

/** The programs that this package calls. */
export const tools: Check = async ({ host }) => {
  const answers = await Promise.all(
    TOOLS.map(async (tool) => ({ tool, ...(await host.run(tool.name, tool.args)) })),
  );
  const missing = answers.filter(({ status }) => status === null).map(({ tool }) => tool);
  if (missing.length > 0) {
    return [
      finding.warning(
        `not installed: ${missing.map(({ name }) => name).join(', ')}`,
        missing.map(({ name, needed }) => `${name} is needed ${needed}.`).join(' '),
        'apt-get install nftables iproute2 util-linux',
      ),
    ];
  }
  const versions = answers.map(({ stdout }) => stdout.split('\n')[0]!.trim());
  return [finding.ok('nft, ip, ss and unshare are installed', `${versions.join('; ')}.`)];
};
