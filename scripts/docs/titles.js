// A typedoc plugin: a guide's name on the site is its first heading, as on every other page that shows it. typedoc
// itself would take the file's name (four times README) or a front matter, which other pages show as a table.
import { Converter } from 'typedoc';

export function load(app) {
  app.converter.on(Converter.EVENT_CREATE_DOCUMENT, (_, document) => {
    const [first] = document.content;
    const title = /^# (.+)\n+/.exec(first?.text ?? '');
    if (!title) return;
    document.name = title[1].replaceAll('`', '');
    first.text = first.text.slice(title[0].length); // the page has its name as its heading already
  });
}
