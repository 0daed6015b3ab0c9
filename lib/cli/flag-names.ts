// What the rules' errors call a setting, as it is written on the command line.
import type { RulesOptions } from './rules-options.ts';

type Given = Pick<
  RulesOptions,
  'preset' | 'ports' | 'to' | 'interfaces' | 'uid' | 'gid' | 'excludePorts' | 'exclude'
>;

const DIRECTION = '(?:outbound|inbound|gateway)';

/** The flags that the entry of `include` comes from: those that were given. */
function includeFlags({ ports, to, interfaces, uid, gid }: Given): string {
  const given = [
    ports && '--ports',
    to && '--to',
    interfaces && '--interfaces',
    uid && '--uid',
    gid && '--gid',
  ].filter(Boolean);
  return given.join(' with ');
}

/** The entries of `exclude` in their order. A preset always has ports of its own first. */
function excludeFlag({ preset, excludePorts }: Given, index: string): string {
  return index === '0' && (preset !== undefined || excludePorts !== undefined)
    ? '--exclude-ports'
    : '--exclude';
}

/** Longer names before those that they begin with. `port`: the flag that says where the proxy listens. */
function table(
  given: Given,
  port: string,
): readonly [pattern: string, flag: string | ((index: string) => string)][] {
  const include = includeFlags(given);
  return [
    [`${DIRECTION}\\.include(?:\\[\\d+\\])?\\.ports`, '--ports'],
    [`${DIRECTION}\\.include(?:\\[\\d+\\])?\\.destinations`, '--to'],
    [`${DIRECTION}\\.include(?:\\[\\d+\\])?\\.interfaces`, '--interfaces'],
    [`${DIRECTION}\\.include(?:\\[\\d+\\])?\\.uids`, '--uid'],
    [`${DIRECTION}\\.include(?:\\[\\d+\\])?\\.gids`, '--gid'],
    [`${DIRECTION}\\.exclude(?:\\[\\d+\\])?\\.ports`, '--exclude-ports'],
    [`${DIRECTION}\\.exclude(?:\\[\\d+\\])?\\.destinations`, '--exclude'],
    // The two are said of ports alone.
    [`${DIRECTION}\\.include names`, '--ports names'],
    [`${DIRECTION}\\.exclude names`, '--exclude-ports names'],
    [
      `${DIRECTION}: all that include\\[\\d+\\] names`,
      include === '' ? 'all that would be captured' : `all that ${include} would capture`,
    ],
    [`(?:${DIRECTION}\\.)?include\\[\\d+\\]`, include],
    [
      `add \\{ ports: \\[(\\d+)\\] \\} to ${DIRECTION}\\.exclude`,
      (number) => `give --exclude-ports ${number}`,
    ],
    [`(?:${DIRECTION}\\.)?exclude\\[(\\d+)\\]`, (index) => excludeFlag(given, index)],
    [`${DIRECTION}\\.preserveSource\\.mark`, '--mark'],
    ["set outbound\\.loopback to 'capture'", 'give --loopback'],
    ['outbound\\.loopback', 'the lack of --loopback'],
    [`${DIRECTION}\\.port`, port],
    ['dns\\.port', '--dns'],
    ['dns\\.servers', 'dns.servers of a --config'],
    ['dns captures', '--dns captures'],
    ['^dns:', '--dns:'],
    ['add outbound with include: \\[\\] to capture nothing but DNS', 'use another --direction'],
    ['exempt\\.uids', '--exempt-uid'],
    ['exempt\\.gids', '--exempt-gid'],
    ['exempt\\.marks', '--exempt-mark'],
    ['exempt\\.cgroups', '--exempt-cgroup'],
    ['clear sshConnection', 'empty SSH_CONNECTION'],
    ['sshConnection', 'SSH_CONNECTION'],
    ['dropInvalid', '--drop-invalid'],
    ['another option mark', 'another --tproxy-mark'],
    ['leave mark out', 'leave --tproxy-mark out'],
    ['leave table out', 'leave --table out'],
    ['use mode tproxy', 'use --mode tproxy'],
    ['^mark:', '--tproxy-mark:'],
    ['"mark"', '--tproxy-mark'],
    ['^table:', '--table:'],
    [
      'choose another name, or ask for takeOver',
      port === '--port' ? 'or give --take-over' : 'or give these rules another --name',
    ],
  ];
}

/** A message of the rules with the flags in place of the names of settings. */
export function withFlags(message: string, given: Given, port: '--port' | '--listen'): string {
  return table(given, port).reduce(
    (text, [pattern, flag]) =>
      text.replaceAll(new RegExp(`${/^\w/.test(pattern) ? '\\b' : ''}${pattern}`, 'g'), (_, index: string) =>
        typeof flag === 'string' ? flag : flag(index),
      ),
    message,
  );
}

/** Does what the options ask for; what is refused is told in their own words. A configuration has the settings' names. */
export async function inFlags<T>(options: RulesOptions, act: () => T | Promise<T>): Promise<T> {
  try {
    return await act();
  } catch (error) {
    if (error instanceof Error && options.config === undefined)
      error.message = withFlags(error.message, options, '--port');
    throw error;
  }
}
