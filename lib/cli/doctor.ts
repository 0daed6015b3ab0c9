// `original-dst doctor`.
import { Command } from 'commander';
import type { DiagnoseOptions, Finding, Level } from '../doctor/index.ts';
import { mark, port } from './arguments.ts';
import { addSections, choice, common, EXIT_STATUS } from './help.ts';
import { type Paint, paintFor, type Style, wrap } from './output.ts';

const LOOKS: Record<Level, { sign: string; style: Style }> = {
  ok: { sign: '✔', style: 'green' },
  warning: { sign: '!', style: 'yellow' },
  problem: { sign: '✖', style: 'red' },
};

const MAX_WIDTH = 100;

function render(findings: readonly Finding[], paint: Paint, width: number): string {
  const blocks = findings.map(({ id, level, title, detail, remedy }) => {
    const { sign, style } = LOOKS[level];
    const head = `${paint(style, sign)} ${paint('bold', title)} ${paint('dim', `(${id})`)}\n`;
    return (
      head +
      wrap(detail, '    ', width) +
      (remedy === undefined ? '' : `    ${paint('cyan', `$ ${remedy}`)}\n`)
    );
  });
  const count = (level: Level) => findings.filter((finding) => finding.level === level).length;
  return `${blocks.join('')}\n${count('problem')} problems, ${count('warning')} warnings, ${count('ok')} ok\n`;
}

export function doctorCommand(): Command {
  const command = common(new Command('doctor'));
  command
    .summary('explain this environment: what hinders interception here, and the remedy')
    .description(
      'Looks at everything that a transparent proxy depends on, and says of each thing whether it is as it should be. What is wrong comes with the command that mends it. Nothing is changed: what has to be tried is tried in a scratch network namespace.',
    )
    .option(
      '-p, --port <port>',
      'the port the proxy listens at (default: every port that a rule leads to)',
      port,
    )
    .addOption(
      choice('-m, --mode <mode>', 'how connections are to reach it (default: as the rules say)', [
        'redirect',
        'tproxy',
      ]),
    )
    .option(
      '--mark <mark>',
      'the mark that TPROXY’s routing rule goes by (default: the one the rules set)',
      mark,
    )
    .addOption(choice('--direction <direction>', 'what is intercepted', ['outbound', 'inbound', 'gateway']))
    .option(
      '--self-test',
      'also send connections and datagrams through each mode in a private network namespace',
    )
    .option('--json', 'print the findings as JSON')
    .action(async (options: DiagnoseOptions & { json?: true }) => {
      const { json, ...asked } = options;
      const { diagnose, worst } = await import('../doctor/index.ts');
      const findings = await diagnose(asked);
      const level = worst(findings);
      process.stdout.write(
        json
          ? `${JSON.stringify({ level, findings }, null, 2)}\n`
          : render(findings, paintFor(command), Math.min(MAX_WIDTH, process.stdout.columns ?? MAX_WIDTH)),
      );
      process.exitCode = level === 'problem' ? 1 : 0;
    });
  return addSections(
    command,
    {
      title: 'Privileges',
      text: 'None. Without CAP_NET_ADMIN the rules cannot be read; the doctor then says so and checks the rest.',
    },
    EXIT_STATUS,
    {
      title: 'Examples',
      text: `original-dst doctor                      whatever the rules here lead to
original-dst doctor --port 15001         does what reaches this port reach the proxy?
original-dst doctor --self-test --json   for scripts`,
    },
  );
}
