// Errors of the rules in the words of the command line: no setting is called by a name that nobody has typed.
import { Command } from 'commander';
import t from 'tap';
import { inFlags, withFlags } from '../../lib/cli/flag-names.ts';
import { addRulesOptions, rulesConfig, type RulesOptions } from '../../lib/cli/rules-options.ts';
import { planRules } from '../../lib/rules/index.ts';

/** A setting's name as only a configuration has it. */
const INTERNAL =
  /\b(outbound|inbound|gateway|exempt|dns)\.(?!servers of a --config)\w|\b(in|ex)clude\[|dropInvalid|sshConnection|takeOver|^\w+:|option mark/;

/** What the command says to this command line; undefined: nothing. */
async function refusal(line: string): Promise<string | undefined> {
  const command = addRulesOptions(new Command().exitOverride());
  command.parse(line.split(' '), { from: 'user' });
  const options = command.opts<RulesOptions>();
  try {
    await inFlags(options, () =>
      planRules({ ...rulesConfig(command, options), sshConnection: '192.0.2.1 5 192.0.2.2 22' }),
    );
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

const OUT = '--port 15001 --exempt-uid 1337';
const REFUSED: [line: string, said: RegExp][] = [
  ['--port 15001', /name it in --exempt-uid, or set SO_MARK and name it in --exempt-mark\)/],
  [`${OUT} --ports 80,80`, /^--ports: 80-80 and 80-80 overlap/],
  [`${OUT} --to 10.0.0.0/8,10.1.0.0/16`, /^--to: 10\.0\.0\.0\/8 and/],
  [`${OUT} --to 127.0.0.2`, /^--to: what has 127\.0\.0\.2 .*the lack of --loopback.*\(give --loopback, or/],
  [`${OUT} --to 224.0.0.1 --ports 80`, /^--ports with --to: 224\.0\.0\.1 is multicast/],
  [`${OUT} --interfaces *`, /^--interfaces: '\*' is no interface/],
  [`${OUT} --exclude-ports 9,9`, /^--exclude-ports: /],
  [`${OUT} --exclude 10.0.0.1,10.0.0.1`, /^--exclude: /],
  [`${OUT} --ports 80 --exclude-ports 80`, /^all that --ports would capture is excluded again/],
  [`${OUT} --exclude 0.0.0.0/0,::/0`, /^all that would be captured is excluded again/],
  [`${OUT} --dns 15001`, /^--dns and --port are the same/],
  [`${OUT} --dns 5353 --ports 53`, /^--ports names port 53, which --dns captures/],
  [`${OUT} --dns 5353 --exclude-ports 53`, /^--exclude-ports names port 53, which --dns captures/],
  [
    '--port 15006 --direction inbound --exclude-ports 22 --dns 5353',
    /^--dns: only .*\(use another --direction\)/,
  ],
  ['--port 15006 --direction inbound', /\(give --exclude-ports 22, or empty SSH_CONNECTION/],
  [`${OUT},1337`, /^--exempt-uid: /],
  ['--port 15001 --exempt-gid 7,7', /^--exempt-gid: /],
  ['--port 15001 --exempt-mark 7,7', /^--exempt-mark: /],
  ['--port 15001 --exempt-mark 1337 --mode tproxy', /^--exempt-mark: .*or another --tproxy-mark\)/],
  ['--port 15001 --exempt-cgroup /a', /^--exempt-cgroup: /],
  [`${OUT} --tproxy-mark 9`, /^--tproxy-mark: .*\(leave --tproxy-mark out, or use --mode tproxy\)/],
  [`${OUT} --mode tproxy --tproxy-mark 4294967295`, /of --tproxy-mark is out of range/],
  [`${OUT} --table 9`, /^--table: .*\(leave --table out/],
  [`${OUT} --mode tproxy --table 254`, /^--table: 254/],
  ['--preset sidecar --exclude-ports 15020', /^--exclude-ports: /],
  [`${OUT} --uid 1337`, /^--uid: 1337 is in --exempt-uid/],
  [`${OUT} --gid 7,7`, /^--gid: /],
];

t.test('every refusal of the planner', async (t) => {
  for (const [line, expected] of REFUSED) {
    const said = await refusal(line);
    t.match(said, expected, line);
    t.notMatch(said, INTERNAL, line);
  }
});

t.test('every flag that a setting comes from is in a message', async (t) => {
  const messages = (await Promise.all(REFUSED.map(([line]) => refusal(line)))).join('\n');
  const flags = addRulesOptions(new Command()).options.map(({ long }) => long!);
  // These choose; what they choose is never refused by itself. --drop-invalid fits everything, a name is quoted.
  const choosing = new Set([
    '--preset',
    '--config',
    '--backend',
    '--family',
    '--drop-invalid',
    '--name',
    '--otherwise',
    '--preserve-source',
  ]);
  for (const flag of flags.filter((each) => !choosing.has(each))) t.match(messages, flag, flag);
});

t.test('what other errors say', async (t) => {
  t.equal(
    withFlags('inbound.preserveSource.mark: packets with mark 1338 are captured', {}, '--listen'),
    '--mark: packets with mark 1338 are captured',
  );
  t.equal(
    withFlags('held (end it, choose another name, or ask for takeOver)', {}, '--listen'),
    'held (end it, or give these rules another --name)',
  );
  t.equal(
    withFlags('held (end it, choose another name, or ask for takeOver)', {}, '--port'),
    'held (end it, or give --take-over)',
  );
  t.equal(
    withFlags('dns.port and outbound.port are the same', {}, '--listen'),
    '--dns and --listen are the same',
  );
  t.equal(
    withFlags('gateway.exclude[0] holds all that exclude[1] names', { exclude: [] }, '--port'),
    '--exclude holds all that --exclude names',
  );
  t.equal(
    withFlags('gateway.exclude[1] holds all that exclude[0] names', { excludePorts: [] }, '--port'),
    '--exclude holds all that --exclude-ports names',
  );
  t.equal(
    withFlags('name the resolvers in dns.servers', {}, '--port'),
    'name the resolvers in dns.servers of a --config',
  );
  await t.rejects(
    inFlags({ config: {} }, () => {
      throw new Error('exempt.uids: of a configuration');
    }),
    { message: 'exempt.uids: of a configuration' },
  );
  await t.rejects(
    inFlags({}, () => Promise.reject('no error')),
    'no error',
  );
});
