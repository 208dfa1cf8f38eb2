// The page is whole without this: it adds a switch of colours and tables that can be sorted.
(() => {
  const root = document.documentElement, theme = document.getElementById('theme');
  const dark = () => root.dataset.theme ? root.dataset.theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
  const show = () => {
    theme.textContent = dark() ? 'Light' : 'Dark';
    theme.setAttribute('aria-label', `${theme.textContent} colours`);
  };
  theme.hidden = false;
  theme.onclick = () => { root.dataset.theme = dark() ? 'light' : 'dark'; show(); };
  show();

  const value = (row, i) => row.cells[i].dataset.v ?? row.cells[i].textContent.trim();
  const sort = (table, head, i) => {
    const up = head.getAttribute('aria-sort') !== 'ascending', body = table.tBodies[0];
    table.querySelectorAll('th[aria-sort]').forEach(other => other.removeAttribute('aria-sort'));
    head.setAttribute('aria-sort', up ? 'ascending' : 'descending');
    const order = (x, y) => {
      const a = value(x, i), b = value(y, i);
      if (a === '' || b === '') return (a === '') - (b === '');  // what is not known stays at the end
      return (a - b || (isNaN(a - b) ? a.localeCompare(b) : 0)) * (up ? 1 : -1);
    };
    [...body.rows].sort(order).forEach(row => body.appendChild(row));
  };
  document.querySelectorAll('table.sortable').forEach(table => {
    table.querySelectorAll('thead th[data-sort]').forEach(head => {
      const button = document.createElement('button');
      button.type = 'button';
      button.append(...head.childNodes);
      head.append(button);
      button.onclick = () => sort(table, head, head.cellIndex);
    });
  });
})();
