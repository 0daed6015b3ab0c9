// tap's coverage map. In a whole run every test counts for all of lib/, so that scenario tests count too; of tests that
// are named one by one tap says what the folders of lib/ lack that they are about.
import { readdirSync } from 'node:fs';

const all = readdirSync('dist/lib', { recursive: true }).filter((file) => file.endsWith('.js'));
const asked = new Set(
  process.argv.map((argument) => /(?:^|\/)test\/([\w-]+)\/.*\.test\.js$/.exec(argument)?.[1]),
);
const some = all.filter((file) => asked.has(file.split('/')[0]));
const files = (some.length > 0 ? some : all).map((file) => `dist/lib/${file}`);

export default () => files;
