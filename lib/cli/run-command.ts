// `original-dst run`: its options.
import { Command, InvalidArgumentError } from 'commander';
import { integer, port, proxyServer } from './arguments.ts';
import { addSections, choice, common, EXIT_STATUS } from './help.ts';
import type { RunOptions } from './run-captured.ts';

/** A port inside, and the one that it stands for out here. */
export interface PortPair {
  inside: number;
  outside: number;
}

/** `8080`, `80:8080` */
function portPair(text: string): PortPair {
  const [inside, outside = inside, ...more] = text.split(':');
  if (more.length > 0) throw new InvalidArgumentError('It must be a port or two: 5432, 80:8080.');
  return { inside: port(inside!), outside: port(outside!) };
}

/** `calls.jsonl`, `fd:3` */
function logTarget(text: string): string | number {
  const [, fd] = /^fd:(.*)$/.exec(text) ?? [];
  return fd === undefined ? text : integer(0, 2 ** 31 - 1)(fd);
}

/** Makes of a parser of one value an option to repeat. */
function each<T>(parse: (text: string) => T): (text: string, previous?: T[]) => T[] {
  return (text, previous = []) => [...previous, parse(text)];
}

export function runCommand(): Command {
  const command = common(new Command('run'));
  command
    .summary('run a command, and see or decide what it talks to')
    .description(
      'Runs a command, and all that it starts, in a network namespace of its own, as this user, without root. Every TCP connection, every question to DNS and every datagram of it comes here, is judged, and is passed on from outside.',
    )
    .argument('<command>', 'the command')
    .argument('[args...]', 'its arguments')
    .passThroughOptions()
    .addOption(
      choice('--capture <how>', 'by a namespace, or by BPF programs at a cgroup', [
        'namespace',
        'ebpf',
      ]).default('namespace'),
    )
    .option(
      '--allow <rule>',
      'talk to these only: name, *.name, address or prefix, with [:port]; may be repeated',
      each(String),
    )
    .option('--deny <rule>', 'never talk to these; may be repeated', each(String))
    .option('--policy <file>', 'the rules of a file: JSON, as of NamePolicy')
    .option(
      '--via <url>',
      'connect by way of this proxy: socks5://[user:password@]host[:port], or http:// for CONNECT; datagrams are refused then',
      proxyServer,
    )
    .addOption(choice('--udp <what>', 'datagrams that are not DNS (default: relay)', ['relay', 'reject']))
    .option('--no-dns', 'leave DNS to the resolver that the command asks: names are not known then')
    .option(
      '--host-port <port[:port]>',
      'reach this port of the host’s localhost at the command’s own; may be repeated',
      each(portPair),
    )
    .option(
      '--publish <port>',
      'reach this port of the command at the host’s localhost; may be repeated',
      each(port),
    )
    .option('--env-ca <file>', 'trust this certificate too, in the environment of the command')
    .option(
      '--log <file>',
      'append a line for each connection, flow, question and refusal; fd:3 is a descriptor that this command was given',
      logTarget,
    )
    .addOption(choice('--log-format <format>', 'of these lines', ['json', 'text']).default('json'))
    .option('-q, --quiet', 'no table at the end')
    .option('--fail-on-denied', 'exit with 3 if anything was denied and the command itself was content')
    .action(async (program: string, args: string[], options: RunOptions) => {
      if (options.via !== undefined && options.udp === 'relay')
        command.error('error: --via and --udp relay exclude each other', { exitCode: 2 });
      if (options.capture === 'ebpf') {
        const { unfitForCgroup } = await import('./run-ebpf.ts');
        const reason = unfitForCgroup(options);
        if (reason !== undefined) command.error(`error: ${reason}`, { exitCode: 2 });
      }
      const { runCaptured } = await import('./run-captured.ts');
      await runCaptured(program, args, options);
    });
  return addSections(
    command,
    {
      title: 'Signals',
      text: `The terminal's signals are the command's: Ctrl-C, Ctrl-Z, a changed window. SIGTERM and SIGHUP
are passed on. What the command leaves behind is cut off when it ends.`,
    },
    {
      title: 'Privileges',
      text: `None, where ordinary users may make user namespaces; \`original-dst doctor\` says whether they may.
--capture ebpf needs root. The command stays in this host's network; its connections are captured, its
datagrams refused, but for those to port 53, which pass: names are those that connections begin with.`,
    },
    {
      ...EXIT_STATUS,
      text: `${EXIT_STATUS.text}
else as that of the command, 128 and the signal's number if a signal ended it, 127 if there is none
3  --fail-on-denied: something was denied`,
    },
    {
      title: 'Examples',
      text: `original-dst run -- npm ci
original-dst run --allow registry.npmjs.org --allow '*.github.com:443' -- npm ci
original-dst run --deny 169.254.0.0/16 --fail-on-denied --log calls.jsonl -- make test
original-dst run --via socks5://127.0.0.1:1080 --log fd:2 --log-format text -- git fetch`,
    },
  );
}
