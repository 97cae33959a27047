'use strict';
(() => {
  const root = document.documentElement;
  const byId = id => document.getElementById(id);
  const json = id => JSON.parse(byId(id).textContent);

  // Light and dark, and the colours and sizes of the plots.

  const plots = [...document.querySelectorAll('[data-figure]')];
  const PRINTED_WIDTH = 640;  // fits on A4 and on letter paper
  let printing = false;
  const MENU = {'updatemenus[0].bgcolor': '#f4faff', 'updatemenus[0].font.color': '#222222'};

  function look(plot, printed) {
    const color = name => getComputedStyle(root).getPropertyValue(name).trim();
    const dark = root.dataset.theme === 'dark' && !printed;
    const narrow = !printed && plot.clientWidth < 560;
    const [ink, grid, card] = dark || !printed ? [color('--ink'), color('--grid'), color('--card')]
      : ['#1b2330', '#e3e7ed', '#ffffff'];
    const changes = {
      'font.color': ink, 'font.family': getComputedStyle(document.body).fontFamily, 'font.size': narrow ? 11 : 13,
      'hoverlabel.bgcolor': card, 'hoverlabel.font.color': ink, 'hoverlabel.bordercolor': grid,
      'legend.font.size': narrow ? 10 : 12, ...('updatemenus' in plot.layout ? MENU : {}),
    };
    if (printed) Object.assign(changes, {width: PRINTED_WIDTH, height: 310, autosize: false});
    else Object.assign(changes, {width: null, height: null, autosize: true});
    for (const key of Object.keys(plot.layout)) {
      if (/^[xy]axis\d*$/.test(key)) {
        for (const part of ['gridcolor', 'zerolinecolor', 'linecolor']) changes[`${key}.${part}`] = grid;
      }
    }
    return changes;
  }


  function restyle() {
    for (const plot of plots) if (plot.layout) Plotly.relayout(plot, look(plot, printing));
  }

  function forPaper(now) {
    if (now === printing) return;
    printing = now;
    restyle();
  }

  for (const plot of plots) {
    const figure = json(plot.dataset.figure);
    const name = plot.id.replace('plot-', 'knas-');
    Plotly.newPlot(plot, figure.data, figure.layout, {
      responsive: true, displaylogo: false, toImageButtonOptions: {filename: name, scale: 2},
      modeBarButtonsToRemove: ['select2d', 'lasso2d'],
    }).then(() => Plotly.relayout(plot, look(plot, printing)));
  }
  addEventListener('beforeprint', () => forPaper(true));
  addEventListener('afterprint', () => forPaper(false));
  matchMedia('print').addEventListener('change', event => forPaper(event.matches));

  const dark = matchMedia('(prefers-color-scheme: dark)');
  const theme = byId('theme');
  function show(name) {
    root.dataset.theme = name;
    theme.textContent = name === 'dark' ? 'Light' : 'Dark';
    theme.setAttribute('aria-label', `Change to ${theme.textContent.toLowerCase()} colours`);
    restyle();
  }
  theme.hidden = false;
  theme.addEventListener('click', () => show(root.dataset.theme === 'dark' ? 'light' : 'dark'));
  dark.addEventListener('change', event => show(event.matches ? 'dark' : 'light'));
  show(dark.matches ? 'dark' : 'light');

  // Copying.

  for (const button of document.querySelectorAll('.copy')) {
    button.addEventListener('click', async () => {
      const text = button.parentElement.querySelector('code').textContent;
      try {
        await navigator.clipboard.writeText(text);
      } catch {  // not allowed for a file in some browsers
        const area = document.body.appendChild(Object.assign(document.createElement('textarea'), {value: text}));
        area.select();
        document.execCommand('copy');
        area.remove();
        button.focus();
      }
      button.textContent = 'Copied';
      setTimeout(() => { button.textContent = 'Copy'; }, 1500);
    });
  }

  // The table of candidates: of many, a page of rows at a time.

  if (!byId('data')) return;
  const PAGE = 100;
  const data = json('data');
  const size = data.architectures.length;
  const columns = Object.fromEntries(data.columns.map(column => [column.key, column]));
  for (const column of data.columns) {
    if (!column.text) column.values = Float64Array.from(data.values[column.key], value => value === null ? NaN : Number(value));
  }
  const body = document.querySelector('#table tbody');
  const headings = [...document.querySelectorAll('#table th[data-key]')];
  const state = {key: 'rank', falling: false, first: 0};
  let rows = Uint32Array.from({length: size}, (_, row) => row);

  function architecture(row, one = (name, choice) => `${name}: ${choice.startsWith('"') ? JSON.parse(choice) : choice}`, between = ', ') {
    return data.names.flatMap((name, i) => {
      const choice = data.architectures[row][i];
      return choice < 0 ? [] : [one(name, data.choices[i][choice])];
    }).join(between);
  }

  function text(key, row) {
    if (key === 'architecture') return architecture(row);
    const code = data.values[key][row];
    return code < 0 ? '' : data.texts[key][code];
  }

  function shown(column, value) {
    if (Number.isNaN(value)) return '';
    value /= column.scale;
    if (!Number.isFinite(value)) return value > 0 ? '∞' : '−∞';
    const rounded = column.digits && !(Number.isInteger(value) && Math.abs(value) < 1e6)
      ? Number(value.toPrecision(column.digits)) : value;
    const size = Math.abs(rounded);
    if (rounded !== 0 && (size < 1e-4 || size >= 1e15)) return rounded.toExponential(Math.max(0, column.digits - 1)).replace('-', '−');
    return rounded.toLocaleString('en', {maximumFractionDigits: 12}).replace('-', '−');
  }

  function cell(key, row) {
    const column = columns[key];
    const td = document.createElement('td');
    if (column && !column.text) {
      const value = column.values[row];
      td.className = 'n';
      td.textContent = shown(column, value);
      if (!Number.isNaN(value)) {
        td.dataset.value = value;
        td.title = value;
      }
    } else if (key === 'status') {
      const span = document.createElement('span');
      span.className = `status ${text(key, row)}`;
      span.textContent = data.statuses[text(key, row)];
      td.append(span);
      td.dataset.value = text(key, row);
    } else if (key === 'architecture') {
      const details = td.appendChild(document.createElement('details'));
      details.appendChild(document.createElement('summary')).textContent = architecture(row);
      td.className = 'wordy';
    } else {
      td.className = text(key, row) ? 'wordy' : '';
      td.textContent = text(key, row);
    }
    return td;
  }

  function draw() {
    const last = Math.min(state.first + PAGE, rows.length);
    const fragment = document.createDocumentFragment();
    for (let i = state.first; i < last; i++) {
      const tr = fragment.appendChild(document.createElement('tr'));
      for (const heading of headings) tr.append(cell(heading.dataset.key, rows[i]));
    }
    body.replaceChildren(fragment);
    const number = value => value.toLocaleString('en');
    byId('shown').textContent = rows.length
      ? `${number(state.first + 1)} to ${number(last)} of ${number(rows.length)}${rows.length < size ? `, filtered from ${number(size)}` : ''}`
      : size ? 'No candidate is like that.' : 'There are no candidates yet.';
    byId('previous').disabled = state.first === 0;
    byId('next').disabled = last === rows.length;
    byId('csv').textContent = rows.length < size ? `Download ${number(rows.length)} rows as CSV` : 'Download CSV';
  }

  // Rows come in the order of the ranking, and sorting keeps the order of equals. What has no value is always last.
  function sort() {
    const column = columns[state.key];
    const sign = state.falling ? -1 : 1;
    if (column && !column.text) {
      const values = column.values;
      rows.sort((a, b) => {
        const x = values[a], y = values[b];
        if (x !== x || y !== y) return (x !== x) - (y !== y) || a - b;
        return x === y ? a - b : x < y ? -sign : sign;
      });
    } else {
      const texts = Array.from({length: size});
      for (const row of rows) texts[row] = text(state.key, row);
      rows.sort((a, b) => {
        const x = texts[a], y = texts[b];
        if (!x || !y) return !x - !y || a - b;
        return x === y ? a - b : x < y ? -sign : sign;
      });
    }
    for (const heading of headings) {
      heading.setAttribute('aria-sort', heading.dataset.key !== state.key ? 'none' : state.falling ? 'descending' : 'ascending');
    }
  }

  let searched = null;  // what a row has in text, made when it is first needed
  function filter() {
    const words = byId('filter').value.toLowerCase().split(/\s+/).filter(word => word);
    const wanted = new Set([...document.querySelectorAll('[name=status]:checked')].map(box => box.value));
    if (words.length && !searched) {
      searched = Array.from({length: size}, (_, row) => [...headings.map(({dataset: {key}}) => !columns[key] || columns[key].text
        ? text(key, row) : key === 'rank' || key === 'candidate' ? columns[key].values[row] : '')].join(' ').toLowerCase());
    }
    const codes = data.values.status, names = data.texts.status;
    rows = Uint32Array.from({length: size}, (_, row) => row).filter(
      row => wanted.has(names[codes[row]]) && words.every(word => searched[row].includes(word)));
    state.first = 0;
    sort();
    draw();
  }

  for (const heading of headings) {
    heading.firstElementChild.addEventListener('click', () => {
      const key = heading.dataset.key;
      state.falling = key === state.key ? !state.falling : Boolean(columns[key] && columns[key].falling);
      state.key = key;
      state.first = 0;
      sort();
      draw();
    });
  }
  let waiting;
  byId('filter').addEventListener('input', () => { clearTimeout(waiting); waiting = setTimeout(filter, 120); });
  for (const box of document.querySelectorAll('[name=status]')) box.addEventListener('change', filter);
  const turn = step => () => { state.first += step; draw(); byId('table').scrollIntoView({block: 'nearest'}); };
  byId('previous').addEventListener('click', turn(-PAGE));
  byId('next').addEventListener('click', turn(PAGE));

  function csv() {
    const quoted = value => /[",\n\r]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value;
    const lines = [headings.map(heading => heading.dataset.key).join(',')];
    for (const row of rows) {
      lines.push(headings.map(({dataset: {key}}) => {
        if (key === 'architecture') {
          return quoted(`{${architecture(row, (name, choice) => `${JSON.stringify(name)}:${choice}`, ',')}}`);
        }
        if (columns[key].text) return quoted(text(key, row));
        const value = columns[key].values[row];
        return Number.isNaN(value) ? '' : String(value);
      }).join(','));
    }
    return lines.join('\r\n') + '\r\n';
  }
  byId('csv').addEventListener('click', () => {
    const link = Object.assign(document.createElement('a'), {
      href: URL.createObjectURL(new Blob([csv()], {type: 'text/csv'})), download: `${document.querySelector('h1').textContent}.csv`});
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  });

  draw();
})();
