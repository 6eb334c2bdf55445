// Tables of the report that sort, and one sound at a time.
document.querySelectorAll("table.sortable").forEach(function (table) {
  var heads = table.querySelectorAll("thead th");
  heads.forEach(function (head, column) {
    head.querySelector("button").addEventListener("click", function () {
      var down = head.getAttribute("aria-sort") ? head.getAttribute("aria-sort") === "ascending" : head.dataset.goal === "max";
      heads.forEach(function (other) { other.removeAttribute("aria-sort"); });
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      var body = table.tBodies[0], rows = Array.from(body.rows);
      rows.sort(function (a, b) {
        var x = a.cells[column].dataset.v, y = b.cells[column].dataset.v;
        if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
        var numbers = x !== "" && y !== "" && !isNaN(x) && !isNaN(y);
        var order = numbers ? x - y : x.localeCompare(y);
        return down ? -order : order;
      });
      rows.forEach(function (row) { body.appendChild(row); });
    });
  });
});
document.addEventListener("play", function (event) {
  document.querySelectorAll("audio").forEach(function (other) { if (other !== event.target) other.pause(); });
}, true);
