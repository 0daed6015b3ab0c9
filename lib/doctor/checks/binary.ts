// Does the addon load?
import type { Check } from '../context.ts';
import { Findings } from '../finding.ts';

const finding = new Findings('binary');

/** dlopen(3) of the addon */
export const binary: Check = ({ host }) => {
  try {
    host.binding();
    return [finding.ok('the native addon loads', `Node ${process.version}, ${host.arch}.`)];
  } catch (error) {
    return [
      finding.problem(
        'the native addon does not load',
        `${(error as Error).message}. Nothing of this package works without it.`,
        'npm rebuild original-dst',
      ),
    ];
  }
};
