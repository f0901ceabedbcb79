class UsersController < ApplicationController
  def ping
    # ruleid: ruby-command-injection
    system("ping -c 1 #{params[:host]}")
    # ok: ruby-command-injection
    system("ping", "-c", "1", params[:host])
  end

  def find
    # ruleid: ruby-sql-injection
    User.where("name = '#{params[:name]}'")
    # ok: ruby-sql-injection
    User.where("name = ?", params[:name])
  end

  def load(data)
    # ruleid: ruby-unsafe-deserialisation
    Marshal.load(data)
    # ok: ruby-unsafe-deserialisation
    JSON.parse(data)
  end
end
