// A typedoc plugin: a guide's name on the site is its first heading. typedoc itself would take the file's name (four
// times README) or a front matter, which other pages show as a table. The README's own heading is the site's already.
import { Converter } from 'typedoc';

const TITLE = /^# (.+)\n+/;

export function load(app) {
  app.converter.on(Converter.EVENT_CREATE_DOCUMENT, (_, document) => {
    const title = TITLE.exec(document.content[0]?.text ?? '');
    if (title) document.name = title[1].replaceAll('`', '');
  });
  app.converter.on(Converter.EVENT_RESOLVE_END, ({ project }) => {
    const first = project.readme?.[0];
    if (first) first.text = first.text.replace(TITLE, '');
  });
}
