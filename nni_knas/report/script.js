'use strict';
(async () => {
  const root = document.documentElement;
  const byId = id => document.getElementById(id);

  // What is large is in the page as gzip in base64.
  function unpacked(id) {
    const bytes = Uint8Array.from(atob(byId(id).textContent), letter => letter.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'))).text();
  }

  // Light and dark, and the colours and sizes of the plots.

  const plots = [...document.querySelectorAll('[data-figure]')];
  const PRINTED_WIDTH = 610;  // fits on A4 and on letter paper
  const PRINTED = {'--ink': '#1b2330', '--grid': '#e3e7ed', '--card': '#ffffff'};
  let printing = false, hovers;

  function look(plot, layout, printed) {
    const color = name => printed ? PRINTED[name] : getComputedStyle(root).getPropertyValue(name).trim();
    const narrow = printed || plot.clientWidth < 560;
    const changes = {
      'font.color': color('--ink'), 'font.family': getComputedStyle(document.body).fontFamily,
      'font.size': narrow ? 12 : 13, 'legend.font.size': narrow ? 11 : 12, 'hoverlabel.bgcolor': color('--card'),
      'hoverlabel.font.color': color('--ink'), 'hoverlabel.bordercolor': color('--grid'), autosize: !printed,
      width: printed ? PRINTED_WIDTH : null, height: printed ? Math.max(300, 0.62 * parseFloat(plot.style.height)) : null,
    };
    for (const key of Object.keys(layout)) {
      if (/^[xy]axis\d*$/.test(key)) {
        changes[`${key}.title.font.size`] = narrow ? 12 : 13;
        for (const part of ['gridcolor', 'zerolinecolor', 'linecolor']) changes[`${key}.${part}`] = color('--grid');
      }
    }
    return changes;
  }

  // The palette of Okabe and Ito where it would be too faint on a page of these colours.
  const SHADES = {
    light: {'#56B4E9': '#2A8CC7', '#E69F00': '#B87700', '#CC79A7': '#B65A8C'},
    dark: {'#0072B2': '#4A9FE0', '#56B4E9': '#9AD6F7', '#D55E00': '#F07A2A', '#009E73': '#22B58A'},
  };

  function restyle() {
    for (const plot of plots) if (plot.figure) drawPlot(plot);
  }

  function drawPlot(plot) {
    const shades = SHADES[printing ? 'light' : root.dataset.theme];
    const {data, layout} = JSON.parse(plot.figure.replace(/#[0-9A-F]{6}/g, color => shades[color] ?? color));
    for (const trace of data) if (Array.isArray(trace.hovertext)) trace.hovertext = trace.hovertext.map(number => hovers[number]);
    layout.uirevision = 'kept';  // what is zoomed or hidden stays so
    for (const [path, value] of Object.entries(look(plot, layout, printing))) {
      const keys = path.split('.'), last = keys.pop();
      keys.reduce((part, key) => part[key] ??= {}, layout)[last] = value;
    }
    return Plotly.react(plot, data, layout, {
      responsive: true, displaylogo: false, displayModeBar: data.length ? 'hover' : false,
      toImageButtonOptions: {filename: plot.id.replace('plot-', 'knas-'), scale: 2},
      showSendToCloud: false, plotlyServerURL: '',  // nothing leaves the page
    });
  }

  function forPaper(now) {
    if (now === printing) return;
    printing = now;
    restyle();
    document.dispatchEvent(new CustomEvent('paper', {detail: now}));
  }

  async function drawPlots() {
    const source = await unpacked('plotly');
    document.head.appendChild(document.createElement('script')).textContent = source;
    hovers = JSON.parse(await unpacked('hovers'));
    for (const plot of plots) {
      plot.figure = await unpacked(plot.dataset.figure);
      await drawPlot(plot);
      await new Promise(done => setTimeout(done));  // the page can be read and used meanwhile
    }
    root.dataset.drawn = 'all';
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

  if (!window.DecompressionStream) {
    byId('too-old').hidden = false;
    return;
  }
  const data = byId('data') && JSON.parse(await unpacked('data'));
  drawPlots();  // goes on beside what follows

  // The table of candidates: of many, a page of rows at a time.

  if (!data) return;
  const MOST_PRINTED = 50;
  const size = data.architectures.length;
  const columns = Object.fromEntries(data.columns.map(column => [column.key, column]));
  for (const column of data.columns) {
    if (!column.text) column.values = Float64Array.from(data.values[column.key], value => value === null ? NaN : Number(value));
  }
  const body = document.querySelector('#table tbody');
  const headings = [...document.querySelectorAll('#table th[data-key]')];
  const state = {key: 'rank', falling: false, first: 0, page: 25};
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
    const size = Math.abs(value), digits = column.digits || 15;
    if (size >= 1e5 && size < 1e15) return value.toLocaleString('en', {maximumFractionDigits: 0}).replace('-', '−');
    if (size && (size < 1e-4 || size >= 1e15)) return Number(value.toPrecision(digits)).toExponential().replaceAll('-', '−');
    return Number(value.toPrecision(digits)).toLocaleString('en', {maximumFractionDigits: 12}).replace('-', '−');
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
    const last = Math.min(state.first + state.page, rows.length);
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
  const turn = sign => () => {
    state.first = Math.max(0, state.first + sign * state.page);
    draw();
    byId('candidates').scrollIntoView();
  };
  byId('previous').addEventListener('click', turn(-1));
  byId('next').addEventListener('click', turn(1));
  function resize(page) {
    state.page = page;
    state.first = 0;
    draw();
  }
  byId('size').addEventListener('change', event => resize(Number(event.target.value)));
  document.addEventListener('paper', event => resize(event.detail ? MOST_PRINTED : Number(byId('size').value)));

  function csv() {
    const quoted = value => /[",\n\r]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value;
    const keys = [...data.columns.map(column => column.key), 'architecture'];  // in the order of the file that comes with the page
    const lines = [keys.join(',')];
    for (const row of rows) {
      lines.push(keys.map(key => {
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
