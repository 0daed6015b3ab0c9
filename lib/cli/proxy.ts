// `original-dst proxy`: its options.
import { Command, Option } from 'commander';
import { integer, list, listenAddress, localAddress, mark, port, proxyServer, target } from './arguments.ts';
import { addSections, choice, common, EXIT_STATUS } from './help.ts';
import { nameRule } from './name-rules.ts';
import { paintFor } from './output.ts';
import { addFlowOptions, checkFlow, OWN_MARK } from './rules-options.ts';
import { addLimitOptions, unfitLimits } from './proxy-limits.ts';
import type { ProxyOptions } from './run-proxy.ts';

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
    .option(
      '--via <url>',
      'connect by way of this proxy: socks5://[user:password@]host[:port], or http:// for CONNECT',
      proxyServer,
    )
    .option('--allow <cidr[:port]>', 'dial only these destinations; may be repeated', list(target))
    .option('--deny <cidr[:port]>', 'never dial these; may be repeated', list(target))
    .option(
      '--allow-name <name[:port]>',
      'relay only what asks for these names, or goes where --allow says: name, *.name; may be repeated',
      list(nameRule),
    )
    .option('--deny-name <name[:port]>', 'never what asks for these; may be repeated', list(nameRule))
    .option(
      '--inspect [ports]',
      'look at what clients say first, for the name and the log; at these destination ports (default: all; without names to judge: none)',
      list(port),
    )
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
    .option(
      '--metrics <[address:]port>',
      'serve metrics for Prometheus there, below /metrics (a port alone: on 127.0.0.1); needs the package prom-client',
      localAddress,
    );
  addLimitOptions(command)
    .optionsGroup('Rules:')
    .option('--with-rules', 'install rules that lead here, and remove them at the end')
    .addOption(
      choice('--capture <how>', 'rules: as --with-rules; ebpf: BPF programs, no rules and no conntrack', [
        'rules',
        'ebpf',
      ]),
    )
    .option('--cgroup <path>', 'with --capture ebpf: whose connections; a cgroup v2, app.slice/shop');
  addFlowOptions(command);
  const flow = addFlowOptions(new Command());
  command.action(async (given: ProxyOptions) => {
    const { isFlowOption, unfitCapture } = await import('./proxy-capture.ts');
    const { unfit } = await import('./proxy-rules.ts');
    const options: ProxyOptions = given.capture === 'rules' ? { ...given, withRules: true } : given;
    const captures = options.capture === 'ebpf';
    const rulesOnly = flow.options.find(
      (option) =>
        options[option.attributeName() as keyof ProxyOptions] !== undefined &&
        !(captures && isFlowOption(option.attributeName())),
    );
    if (!options.withRules && rulesOnly !== undefined) {
      command.error(`error: ${rulesOnly.long} is about rules: add --with-rules`, { exitCode: 2 });
    }
    checkFlow(command, options);
    if (options.via && options.preserveSource !== undefined) {
      command.error('error: --via and --preserve-source exclude each other', { exitCode: 2 });
    }
    const reason = unfitLimits(options) ?? unfitCapture(options) ?? (options.withRules && unfit(options));
    if (reason) command.error(`error: ${reason}`, { exitCode: 2 });
    const { runProxy } = await import('./run-proxy.ts');
    await runProxy(options, paintFor(command));
  });
  return addSections(
    command,
    {
      title: 'Signals',
      text: `SIGINT, SIGTERM, SIGHUP  let open connections end, then remove the rules; new connections go
                         straight to where they are going (without --with-rules: are refused)
a second one             end them at once
nohup's SIGHUP is ignored. After SIGKILL, or a fault, a second process removes the rules. Should
that be killed too, the next start with --with-rules takes them over, and
\`original-dst rules remove proxy --yes\` removes them.`,
    },
    {
      title: 'Privileges',
      text: `None for redirect. CAP_NET_ADMIN (CAP_NET_RAW will do) for --mode tproxy, --mark and
--preserve-source; CAP_NET_ADMIN for --with-rules; CAP_BPF and CAP_NET_ADMIN for --capture ebpf.`,
    },
    EXIT_STATUS,
    {
      title: 'Names',
      text: `The server name of a TLS ClientHello, or the Host of an HTTP/1 request: what the client claims. A name
beats *.name, whichever list it is in. With --allow-name, what says no name is refused, unless --allow
allows its address. At inspected ports, a client that waits for the server to speak first (SMTP, MySQL,
FTP) is decided about after three seconds: name with --inspect the ports of those that do not.`,
    },
    {
      title: 'Service managers',
      text: `Told by way of NOTIFY_SOCKET (systemd: Type=notify) when it listens and when it ends; with
WATCHDOG_USEC (WatchdogSec=) also that its event loop turns.`,
    },
    {
      title: 'Socket activation',
      text: `A socket that systemd passes (LISTEN_FDS) takes the place of --listen; of several the one that has
FileDescriptorName=proxy.`,
    },
    {
      title: 'Examples',
      text: `original-dst proxy --with-rules --ports 80,443
original-dst proxy --mode tproxy --with-rules --direction gateway --interfaces lan0 --preserve-source
original-dst proxy --with-rules --ports 80,443 --via socks5://127.0.0.1:1080
original-dst proxy --capture ebpf --cgroup app.slice --ports 80,443
original-dst proxy --with-rules --allow-name '*.example.com:443' --deny-name tracker.example.com --inspect 80,443
original-dst proxy --listen 15001 --deny 169.254.169.254 --deny '10.0.0.0/8:22' --log json`,
    },
  );
}
