// Can this user capture a command: `original-dst run`, createCapture()?
import { cannotCreate, namespaceObstacle } from '../../namespace/create.ts';
import { CAPTURE_TOOLS, missingTools } from '../../namespace/tools.ts';
import type { Check } from '../context.ts';
import { type Finding, Findings } from '../finding.ts';
import type { Host } from '../host.ts';

const finding = new Findings('command-capture');

function cannot(why: string, remedy: string | undefined): Finding {
  const detail = `${why}. \`original-dst run\` and createCapture() do not work; rules do not need it.`;
  return finding.warning('this user cannot capture a command', detail, remedy);
}

/** Which of the programs there are, as `command -v` says. */
async function findTools(host: Host): Promise<Set<string>> {
  const script = `for name in ${CAPTURE_TOOLS.join(' ')}; do command -v "$name" >/dev/null && echo "$name"; done`;
  const { stdout } = await host.run('sh', ['-c', script]);
  return new Set(stdout.split('\n'));
}

/** user_namespaces(7): makes one, which ends with its descriptor. */
export const commandCapture: Check = async ({ host }) => {
  let made: ReturnType<ReturnType<Host['binding']>['createNamespace']>;
  try {
    made = host.binding().createNamespace(false);
  } catch {
    return []; // without a binary: another check's finding
  }
  if (typeof made !== 'number') {
    const [errno, step] = made;
    const readFile = (path: string): string | undefined => host.read(path);
    const { why, remedy } = namespaceObstacle(errno, readFile) ?? {};
    const { message } = cannotCreate(errno, step, readFile).cause as Error;
    return [cannot(`No network namespace can be made here: ${why ?? message}`, remedy)];
  }
  host.binding().closeFd(made);
  const found = await findTools(host);
  const missing = missingTools(CAPTURE_TOOLS, (name) => (found.has(name) ? name : undefined));
  if (missing !== undefined) {
    const { why, remedy } = missing;
    return [cannot(why, remedy)];
  }
  return [
    finding.ok(
      'this user can capture a command',
      'A user and network namespace can be made, and the programs are there: `original-dst run` takes no root.',
    ),
  ];
};
