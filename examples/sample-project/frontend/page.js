function showPort(port) {
  document.getElementById("port").innerHTML = "<b>" + port.name + "</b>";
}

function showShip(ship) {
  document.getElementById("ship").textContent = ship.name;
}

function clear() {
  document.getElementById("port").innerHTML = "";
}
