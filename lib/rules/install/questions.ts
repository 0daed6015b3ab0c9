// Asks the system, each question once. A question that is not answered is an error, whatever the reason.
import type { CodedError } from '../../errors.ts';
import type { RunStep, Step, StepResult } from '../types.ts';
import { printable } from './printable.ts';
import { stepError } from './run.ts';
import { isSetting, settingPath } from './sysctl.ts';
import { unreadable } from './undo.ts';

/** Is it the error of a program that is not there, or of nft on a kernel that has no nf_tables to ask? */
export function isMissing(error: unknown): boolean {
  const { code, message } = error as CodedError;
  const noNfTables = /cache initialization failed: (?:Invalid argument|Protocol not supported)/;
  return code === 'ERR_RULES_TOOL_MISSING' || noNfTables.test(message);
}

type Command = readonly [string, ...string[]];

export class Questions {
  readonly #run: RunStep;
  readonly #answers = new Map<string, Promise<StepResult>>();
  constructor(run: RunStep) {
    this.#run = run;
  }

  #ask(step: Step): Promise<StepResult> {
    const key = step.command.join(' ');
    const known = this.#answers.get(key);
    if (known !== undefined) return known;
    const answer = this.#run(step);
    this.#answers.set(key, answer);
    return answer;
  }

  /** The command's output. If it fails and `otherwise` knows no better, that is an error. */
  async read(
    command: Command,
    otherwise: (result: StepResult) => string | undefined = () => undefined,
  ): Promise<string> {
    const step: Step = { why: 'see what is installed', command };
    const result = await this.#ask(step);
    if (result.status === 0) return result.stdout;
    const instead = otherwise(result);
    if (instead === undefined) throw stepError(step, result);
    return instead;
  }

  /** The command's output, an array of objects in JSON: the one form in which no name or comment passes for more. */
  async objects(
    command: Command,
    inside: (json: unknown) => unknown = (json) => json,
    otherwise?: (result: StepResult) => string | undefined,
  ): Promise<Record<string, unknown>[]> {
    const text = await this.read(command, otherwise);
    try {
      const list = inside(JSON.parse(text || '[]'));
      if (Array.isArray(list) && list.every((entry) => typeof entry === 'object' && entry !== null))
        return list;
    } catch {
      // Told below.
    }
    throw unreadable(`${command.join(' ')} did not answer in JSON: ${printable(text.slice(0, 100))}`);
  }

  /** The value of a setting. Undefined: there is none of that name, as when its interface is gone. */
  async sysctl(key: string): Promise<string | undefined> {
    const path = settingPath(key);
    const text = await this.read(['cat', path], ({ stderr }) =>
      stderr.includes('No such file or directory') ? '' : undefined,
    );
    const value = text.trim();
    if (value === '') return undefined;
    if (isSetting({ key, value })) return value;
    throw unreadable(`${path} is no number: ${printable(value)}`);
  }
}
