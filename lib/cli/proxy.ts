import { Command, Option } from 'commander';
import { formatEndpoint } from '../address.ts';
import { apply, type Mode, remove, type RulePlan } from '../rules/index.ts';
import { type AccessRecord, accessText } from './access-log.ts';
import { integer, list, type ListenAddress, listenAddress, mark, type Target, target } from './arguments.ts';
import { drain, type ProxyRules } from './drain.ts';
import { egressPolicies } from './egress-list.ts';
import { Forwarder } from './forwarder.ts';
import { hostPlan } from './host-plan.ts';
import { addSections, choice, common, EXIT_STATUS } from './help.ts';
import { bytes, paintFor } from './output.ts';
import { addFlowOptions, flowConfig, type FlowOptions } from './rules-options.ts';
import { StatusLine } from './status-line.ts';

interface ProxyOptions extends FlowOptions {
  mode: Mode;
  listen: ListenAddress;
  preserveSource?: true | 'port';
  allow?: Target[];
  deny?: Target[];
  mark?: number;
  withRules?: true;
  relay: boolean;
  idle: number;
  log: 'text' | 'json' | 'none';
  grace: number;
}

/** The mark of the proxy's own connections when rules have to tell them from others; not one that tproxy uses. */
const OWN_MARK = 1340;

/**
 * The rules that bring connections to the proxy. Its own pass by the mark that it gives them, whatever else is exempt:
 * with any other sign, whoever forgets it has a loop.
 */
function planFor(
  options: ProxyOptions,
  port: number,
  ownMark: number,
  say: (message: string) => void,
): RulePlan {
  const exemptMark = [...new Set([ownMark, ...(options.exemptMark ?? [])])];
  const config = flowConfig({ name: 'proxy', ...options, exemptMark }, options.mode, port);
  const { SSH_CONNECTION: sshConnection } = process.env;
  const guarded = sshConnection === undefined ? config : { sshConnection, ...config };
  return hostPlan(guarded, options.family !== undefined, say);
}

/** Resolves at the first signal that asks this process to end; `again` is called at the second. */
function askedToEnd(again: () => void): Promise<void> {
  return new Promise((resolve) => {
    let asked = false;
    const onSignal = () => {
      if (asked) again();
      asked = true;
      resolve();
    };
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, onSignal);
  });
}

async function runProxy(command: Command, options: ProxyOptions): Promise<void> {
  const { mode, preserveSource, withRules, log } = options;
  const ownMark = options.mark ?? (withRules ? OWN_MARK : undefined);
  const paint = paintFor(command);
  const status = new StatusLine(process.stderr, () => {
    const { open, connections, toUpstream, toClient } = forwarder.totals;
    return `${open} open, ${connections} connections, ↑ ${bytes(toUpstream)} ↓ ${bytes(toClient)}`;
  });
  const say = (message: string) => status.above(process.stderr, `${message}\n`);
  const onEnd = (record: AccessRecord) => {
    if (log === 'none') return;
    status.above(process.stdout, log === 'json' ? `${JSON.stringify(record)}\n` : accessText(record, paint));
  };
  const forwarder = new Forwarder({
    transparent: mode === 'tproxy',
    dial: {
      ...(preserveSource === undefined ? {} : { preserveSource, portFallback: true }),
      ...(ownMark === undefined ? {} : { mark: ownMark }),
    },
    egress: egressPolicies(options.allow, options.deny),
    relay: { engine: options.relay ? 'any' : 'pipe', idleTimeout: options.idle * 1000 },
    onEnd,
  });

  const hurry = new AbortController();
  const end = askedToEnd(() => {
    hurry.abort();
    forwarder.destroy();
  });
  let rules: ProxyRules | undefined;
  try {
    const address = await forwarder.listen(options.listen);
    if (withRules) {
      const plan = planFor(options, address.port, ownMark!, say);
      const applied = options.backend === undefined ? {} : { backend: options.backend };
      await apply(plan, applied);
      rules = { plan, options: applied, port: address.port };
    }
    say(`listening on ${formatEndpoint(address)} (${mode}${rules ? ', rules installed' : ''})`);
    await end;
    say(`ending: open connections have ${options.grace} s, a second signal ends them at once`);
    await drain(forwarder, rules, options.grace * 1000, hurry.signal);
  } finally {
    // The connections before the rules, without which no client would hear of the end of its own.
    forwarder.close();
    await forwarder.drain(0);
    status.stop();
    if (rules) await remove(rules.plan.name);
  }
}

export function proxyCommand(): Command {
  const command = common(new Command('proxy'));
  command
    .summary('run a transparent TCP proxy')
    .description(
      'Accepts intercepted connections, finds out where each was really going, dials there and joins the two. One line of access log for each connection on standard output, everything else on standard error.',
    )
    .addOption(
      choice('-m, --mode <mode>', 'how connections come here', ['redirect', 'tproxy']).default('redirect'),
    )
    .addOption(
      new Option('-l, --listen <[address:]port>', 'where to listen; port 0: any')
        .argParser(listenAddress)
        .default({ host: '::', port: 15001 }, '[::]:15001'),
    )
    .addOption(
      choice(
        '--preserve-source [port]',
        'dial from the client’s own address (port: and its port, if it is free)',
        ['port'],
      ),
    )
    .option('--allow <cidr[:port]>', 'dial only these destinations; may be repeated', list(target))
    .option('--deny <cidr[:port]>', 'never dial these; may be repeated', list(target))
    .option(
      '--mark <mark>',
      `SO_MARK of the connections dialled (default: none; ${OWN_MARK} with --with-rules)`,
      mark,
    )
    .option(
      '--idle <seconds>',
      'end connections on which nothing has moved for so long (0: never)',
      integer(0, 2_000_000),
      0,
    )
    .option('--no-relay', 'move bytes with Node’s streams instead of the native relay')
    .addOption(choice('--log <format>', 'access log', ['text', 'json', 'none']).default('text'))
    .option(
      '--grace <seconds>',
      'how long open connections may take to end after SIGINT or SIGTERM',
      integer(0, 86_400),
      10,
    )
    .optionsGroup('Rules:')
    .option('--with-rules', 'install rules that lead here, and remove them at the end');
  addFlowOptions(command);
  command.action((options: ProxyOptions) => {
    const flow = [
      'ports',
      'to',
      'interfaces',
      'exclude',
      'excludePorts',
      'direction',
      'family',
      'backend',
    ] as const;
    const idle = flow.find((name) => options[name] !== undefined);
    if (!options.withRules && idle !== undefined) {
      command.error(`error: --${idle} is about rules: add --with-rules`, { exitCode: 2 });
    }
    return runProxy(command, options);
  });
  return addSections(
    command,
    {
      title: 'Signals',
      text: `SIGINT, SIGTERM, SIGHUP  let open connections end, then remove the rules; new connections go
                         straight to where they are going (without --with-rules: are refused)
a second one             end them at once
After SIGKILL the rules stay; the next start with --with-rules takes them over, and
\`original-dst rules remove proxy --yes\` removes them.`,
    },
    {
      title: 'Privileges',
      text: `None for redirect. CAP_NET_ADMIN (CAP_NET_RAW will do) for --mode tproxy, --mark and
--preserve-source; CAP_NET_ADMIN for --with-rules.`,
    },
    EXIT_STATUS,
    {
      title: 'Examples',
      text: `original-dst proxy --with-rules --ports 80,443
original-dst proxy --mode tproxy --with-rules --direction gateway --interfaces lan0 --preserve-source
original-dst proxy --listen 15001 --deny 169.254.169.254 --deny '10.0.0.0/8:22' --log json`,
    },
  );
}
