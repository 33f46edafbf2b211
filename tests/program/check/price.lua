return function(order)
  return order.price * (1 + 0.19
end
